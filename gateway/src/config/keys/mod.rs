//! Every key of both files, in one table: what it takes, what holds without it, what it is. The reference documentation, the
//! JSON Schemas and `tollgate config show` are made from it, and a test holds it against what the readers accept.

mod schema;
mod show;
mod tables;
mod written;

#[cfg(test)]
mod tests;

pub(crate) use schema::of as schema;
pub(crate) use show::{Shown, gateway as show_gateway, tenant as show_tenant};
use tables::{GATEWAY, TENANT};
pub(crate) use written::reference;

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Texts of some shape, in words.
    Text(&'static str),
    Bool,
    /// A whole number in these bounds.
    Count(u32, u32),
    Duration,
    Bytes,
    Fuel,
    /// One of these.
    Word(&'static [&'static str]),
    /// Texts of one shape, any number of them.
    List(&'static str),
    /// One of these, any number of them, the first the most wanted.
    Words(&'static [&'static str]),
    /// A text, `{ env = "NAME" }` or `{ file = "path" }`.
    Reference,
    /// The same without the text.
    Elsewhere,
    /// `{ rate, per, burst }` of a quantity.
    Rate(&'static Self),
    /// `{ bytes, keys }`.
    Space,
    /// Where a component comes from: a path, `{ oci }` or `{ url, sha256 }`.
    Origin,
    /// Tables under names of imports, each of which says where a part comes from and what it inherits.
    Parts,
    /// The same without names, in their order.
    Around,
    /// Paths, or lists of paths of which one fits.
    Layers,
    /// Files that a component may read: patterns, or `{ source, destination }`.
    Mounts,
}

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) takes: Takes,
    /// What holds without it, as it would be written; nothing where it must be there or nothing holds.
    pub(crate) default: Default,
    pub(crate) says: &'static str,
}

/// What holds where a key is not there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Default {
    /// It must be there.
    Needed,
    /// Nothing, which means what the description says.
    Nothing,
    /// This, as it would be written.
    Is(fn() -> String),
}

/// One table of a file, by its name from the top, such as `tls.acme`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) says: &'static str,
    pub(crate) keys: &'static [Key],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `[name]`.
    Table,
    /// `[[name]]`, any number of them.
    Tables,
    /// `[name]` with keys that the file chooses itself; the one key of the table says what each takes.
    Named,
}

/// One of the two files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) says: &'static str,
    pub(crate) sections: &'static [Section],
}

impl File {
    /// By its name on the command line.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        [&GATEWAY, &TENANT].into_iter().find(|file| file.name == name)
    }

    /// Whether the section belongs to each of several others, as a route's limits do.
    fn is_inside(&self, section: &Section) -> bool {
        let of = section.name.rsplit_once('.').map(|(of, _)| of);
        self.sections.iter().any(|other| Some(other.name) == of && other.shape == Shape::Tables)
    }
}
