//! With `storage.tenant_users`, guests' calls to Redis use their tenant's own Redis user, so that Redis itself isolates
//! tenants. Each user's password is derived from one secret and the tenant's name, so that none has to be stored.
//!
//! Limit: connections of [`TENANTS_MAX`] tenants, each kept while it is used and for [`IDLE`] after that.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use deadpool_redis::redis::ConnectionInfo;

use super::redis::{Redis, Refusals};
use super::{Backend, Error, Prefix, Result, Secret, Servers};
use crate::ids::TenantId;

const TENANTS_MAX: u64 = 1000;
const IDLE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Users {
    servers: Servers,
    secret: Secret,
    prefix: Prefix,
    timeout: Duration,
    refusals: Arc<Refusals>,
    backends: moka::sync::Cache<TenantId, Arc<Backend>>,
}

/// A user of Redis.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: Secret,
}

impl User {
    /// The user of a tenant's guests, `tg.acme`.
    pub(crate) fn of(prefix: &Prefix, tenant: &TenantId, secret: &Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.0.as_bytes());
        let name = format!("{}.{tenant}", prefix.as_str());
        let tag = hmac::sign(&key, format!("Redis user {name}").as_bytes());
        let password: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name, password: Secret(password) }
    }
}

impl User {
    /// The same connection settings, as this user.
    pub(super) fn on(&self, info: ConnectionInfo) -> ConnectionInfo {
        let settings = info.redis_settings().clone().set_username(&self.name).set_password(&self.password.0);
        info.set_redis_settings(settings)
    }
}

impl Users {
    pub(super) fn new(
        servers: Servers,
        secret: Secret,
        prefix: Prefix,
        (timeout, refusals): (Duration, Arc<Refusals>),
    ) -> Self {
        let backends = moka::sync::Cache::builder().max_capacity(TENANTS_MAX).time_to_idle(IDLE).build();
        Self { servers, secret, prefix, timeout, refusals, backends }
    }

    /// The servers, as this tenant's user.
    pub(super) fn backend(&self, tenant: &TenantId) -> Result<Arc<Backend>> {
        let open = || {
            let user = Some(User::of(&self.prefix, tenant, &self.secret));
            let redis = Redis::new(&Servers { user, ..self.servers.clone() }, self.timeout, &self.refusals)?;
            Ok::<_, anyhow::Error>(Arc::new(Backend::Redis(Box::new(redis))))
        };
        self.backends.try_get_with_by_ref(tenant, open).map_err(|error| {
            tracing::error!(target: "store", %tenant, %error, "there is no connection for its user");
            Error::Unavailable
        })
    }
}
