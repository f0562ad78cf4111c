//! Every key of both files, in one table: its values, its default, its meaning. The reference documentation, the JSON
//! Schemas and `tollgate config show` are generated from it, and a test compares it with what the readers accept.

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

/// The values that a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// A text in the form that these words describe.
    Text(&'static str),
    Bool,
    /// A whole number from the first to the second.
    Count(u32, u32),
    Duration,
    Bytes,
    Fuel,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any number of texts in one form.
    List(&'static str),
    /// Any number of these words, the most preferred first.
    Words(&'static [&'static str]),
    /// A text, `{ env = "NAME" }` or `{ file = "path" }`.
    Reference,
    /// The same without the plain text.
    Elsewhere,
    /// `{ rate, per, burst }` of a quantity.
    Rate(&'static Self),
    /// `{ bytes, keys }`.
    Space,
    /// Where a component comes from: a path, `{ oci }` or `{ url, sha256 }`.
    Origin,
    /// Tables by the name of an import, each of which says where a part comes from and what it inherits.
    Parts,
    /// An ordered list of the same, without names.
    Around,
    /// Paths, or lists of paths, of which the first that fits is used.
    Layers,
    /// Files that a component may read: patterns, or `{ source, destination }`.
    Mounts,
}

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) takes: Takes,
    /// The default, as it would be written in the file.
    pub(crate) default: Default,
    pub(crate) says: &'static str,
}

/// The value of a key that the file does not set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Default {
    /// The key is required.
    Needed,
    /// No value; the description says what that means.
    Nothing,
    /// This value, as it would be written in the file.
    Is(fn() -> String),
}

/// One table of a file, with its full name, such as `tls.acme`.
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
    /// `[name]` with keys that the file chooses itself. The one key in the table describes their values.
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
    /// Finds a file by its name on the command line.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        [&GATEWAY, &TENANT].into_iter().find(|file| file.name == name)
    }

    /// Whether the section occurs in each of several others, as a route's limits do.
    fn is_inside(&self, section: &Section) -> bool {
        let of = section.name.rsplit_once('.').map(|(of, _)| of);
        self.sections.iter().any(|other| Some(other.name) == of && other.shape == Shape::Tables)
    }
}
