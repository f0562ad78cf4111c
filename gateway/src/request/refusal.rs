//! Refusals at a door: noted in the record, and slower for a tenant that is refused again and again. `tenant/ledger.rs` decides which
//! quota refuses a request (429), and `tenant/limited.rs` names it.

use std::net::IpAddr;

use crate::admission::Refused;
use crate::deadline::Moment;
use crate::fault::Fault;
use crate::telemetry::Record;
use crate::tenant::Ledger;

/// Takes one request from the address's rate limit at this tenant.
pub(super) fn take_rate(ledger: &Ledger, address: IpAddr) -> Result<(), Refused> {
    Ok(ledger.by_address.take(address, Moment::now())?)
}

/// Delays the refusal if the tenant is refused again and again.
pub(super) async fn refuse_slowly<T>(
    admitted: Result<T, Refused>,
    ledger: &Ledger,
    record: &Record,
) -> Result<T, Fault> {
    let refused = match admitted {
        Ok(admitted) => return Ok(admitted),
        Err(refused) => refused,
    };
    let fault = refuse(&refused, record);
    tokio::time::sleep(ledger.refusal_pause(Moment::now())).await;
    Err(fault)
}

/// Notes the refusal in the record, and returns its fault.
pub(crate) fn refuse(refused: &Refused, record: &Record) -> Fault {
    if let Some(limited) = refused.limited {
        record.limited(limited.fields());
    }
    refused.fault
}
