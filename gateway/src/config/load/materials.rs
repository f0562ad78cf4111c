//! Gathers what a tenant's file refers to, and the paths of all of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::disk::{self, Wasm};
use crate::config::files::boot::Boot;
use crate::config::files::component::ComponentRead;
use crate::config::files::dependencies::PartRead;
use crate::config::files::tenant::TenantFile;
use crate::config::mounts::Files;
use crate::config::problem::Source;
use crate::config::reader::At;
use crate::config::remote::Origin;
use crate::config::resolve::Materials;
use crate::ids::Digest;

pub(crate) fn gather(
    boot: &Boot,
    folder: &Path,
    file: &TenantFile,
    variables: Vec<Result<String, String>>,
) -> Materials {
    let read = |at: &At<String>| disk::read_limited(&folder.join(&at.value), disk::FILE_BYTES_MAX);
    Materials {
        wasm: file.components.iter().map(|component| component_of(boot, folder, &component.source.value)).collect(),
        parts: file.components.iter().map(|component| parts_of(boot, folder, component)).collect(),
        files: file.components.iter().map(|component| Some(component.files.as_ref()?.find(folder))).collect(),
        pairs: file.tls.iter().flat_map(|tls| &tls.pairs).map(|pair| (read(&pair.cert), read(&pair.key))).collect(),
        clients: file
            .tls
            .as_ref()
            .and_then(|tls| tls.clients.as_ref())
            .map(|clients| (read(&clients.ca), clients.revoked.as_ref().map(read))),
        now: std::time::SystemTime::now(),
        variables,
        secrets: file.secrets.iter().map(|(_, reference)| reference.read(folder)).collect(),
    }
}

/// The digest of all that was read from the files and beside them; none if something could not be read.
pub(crate) fn stamp(sources: &[Arc<Source>], materials: &Materials) -> Option<Digest> {
    let mut all = Vec::new();
    let mut add = |bytes: &[u8]| {
        all.extend((bytes.len() as u64).to_le_bytes());
        all.extend(bytes);
    };
    sources.iter().for_each(|source| add(source.text.as_bytes()));
    for wasm in materials.wasm.iter().chain(materials.parts.iter().flatten()) {
        let Wasm::Component(_, digest) = wasm else { return None };
        add(digest.to_string().as_bytes());
    }
    for files in materials.files.iter().flatten() {
        add(files.as_ref().ok()?.digest.to_string().as_bytes());
    }
    for file in materials.pairs.iter().flat_map(|(cert, key)| [cert, key]) {
        add(file.as_ref().ok()?);
    }
    for file in materials.clients.iter().flat_map(|(ca, revoked)| std::iter::once(ca).chain(revoked)) {
        add(file.as_ref().ok()?);
    }
    for value in materials.variables.iter().chain(&materials.secrets) {
        add(value.as_ref().ok()?.as_bytes());
    }
    Some(Digest::of(&all))
}

/// The files that a tenant's file names, and those that its patterns match.
pub(crate) fn paths<'f>(file: &'f TenantFile, materials: &'f Materials) -> impl Iterator<Item = PathBuf> + 'f {
    let found = materials.files.iter().filter_map(|files| files.as_ref()?.as_ref().ok()).flat_map(Files::sources);
    named(file).chain(found)
}

fn component_of(boot: &Boot, folder: &Path, origin: &Origin) -> Wasm {
    match origin {
        Origin::Path(path) => disk::wasm(&folder.join(path)),
        Origin::Url(..) | Origin::Image(_) => match boot.components.file(origin) {
            Ok((path, _digest)) => disk::wasm(&path),
            Err(why) => Wasm::Unfetched(why),
        },
    }
}

/// The files of a component's parts, in their order.
fn parts_of(boot: &Boot, folder: &Path, component: &ComponentRead) -> Vec<Wasm> {
    let none = || Wasm::Unreadable("it names a component that does not exist".to_owned());
    let found = |part: &PartRead| part.origin().map_or_else(none, |origin| component_of(boot, folder, origin));
    component.parts().map(found).collect()
}

/// The files that a tenant's file names, relative to its folder.
pub(crate) fn named(file: &TenantFile) -> impl Iterator<Item = PathBuf> + '_ {
    let pair = file.tls.iter().flat_map(|tls| &tls.pairs).flat_map(|pair| [&pair.cert, &pair.key]);
    let clients = file.tls.iter().filter_map(|tls| tls.clients.as_ref());
    let pair = pair.chain(clients.flat_map(|clients| std::iter::once(&clients.ca).chain(&clients.revoked)));
    let parts = file.components.iter().flat_map(ComponentRead::parts).filter_map(PartRead::origin);
    let sources = file.components.iter().map(|component| &component.source.value).chain(parts);
    let sources = sources.filter_map(Origin::path).map(PathBuf::from);
    let named = file.app.iter().chain(pair).map(|at| PathBuf::from(&at.value)).chain(sources);
    let references = file.secrets.iter().chain(&file.variables).filter_map(|(_, reference)| reference.path());
    named.chain(references.map(PathBuf::from))
}
