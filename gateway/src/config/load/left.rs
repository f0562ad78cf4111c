//! Warns if a gateway on Redis has an embedded store with tenants' data in its state folder: someone changed `--storage`,
//! and the data stayed behind.

use super::folders::names;
use crate::config::files::boot::Boot;
use crate::config::problem::Kind;
use crate::config::problem::Problem;
use crate::ids::TenantId;
use crate::store;

/// Maximum number of tenants that the warning names.
const NAMED_MAX: usize = 5;

/// The warning, if there are such tenants. Tenants that were moved do not count.
pub(crate) fn left_behind(boot: &Boot) -> Option<Problem> {
    if boot.storage.is_embedded() {
        return None;
    }
    let dir = boot.state.join("store");
    let is_here = |id: &TenantId| !boot.state.join("moved").join(id.as_str()).exists();
    let left: Vec<String> = match store::left_behind(&dir) {
        Ok(left) => left.iter().filter(|(id, _)| is_here(id)).map(|(id, keys)| format!("{id} ({keys} keys)")).collect(),
        // A store that was not closed cleanly cannot be read before its repair: any of the tenants may have data there.
        Err(_unclean) => {
            let all = names(boot).unwrap_or_default();
            all.iter().filter(|id| is_here(id)).map(|id| format!("{id} (perhaps)")).collect()
        }
    };
    if left.is_empty() {
        return None;
    }
    let more = left.len().saturating_sub(NAMED_MAX);
    let shown = left.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    let found = if more == 0 { shown } else { format!("{shown} and {more} more") };
    Some(Problem {
        kind: Kind::DataLeftBehind,
        tenant: None,
        place: boot.source.place_of("storage.backend"),
        summary: "the embedded store has tenants' data that this gateway does not use".to_owned(),
        found: format!("in {}: {found}", dir.display()),
        wanted: "the data in the storage that the gateway uses".to_owned(),
        hint: Some(
            "start with --storage embedded, run `tollgate kv move --all --to redis://HOST:PORT`, and start again as \
                now; or move that folder elsewhere"
                .to_owned(),
        ),
        also: None,
    })
}
