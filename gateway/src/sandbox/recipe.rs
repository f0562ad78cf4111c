//! A recipe: the parts from which a component is composed, and the format in which they go to the compiling child.
//!
//! Limit: [`PARTS_MAX`] parts with [`PARTS_BYTES_MAX`] in all.

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// Parts of one component, including alternatives.
pub(crate) const PARTS_MAX: usize = 16;
/// Bytes of all parts of one component.
pub(crate) const PARTS_BYTES_MAX: u64 = 100 << 20;

/// The start of an encoded recipe. Its number increases when the same recipe gives a different component.
const MAGIC: &[u8] = b"tollgate recipe 1\n";

/// Which parts are joined, and how. Its digest identifies the composed component: the same parts joined in the same way are
/// the same component for everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recipe {
    /// The digest of the main part.
    pub(crate) main: String,
    pub(crate) dependencies: Vec<Dependency>,
    /// From the outermost to the innermost.
    pub(crate) middleware: Vec<Step>,
}

/// What replaces imports of the main part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dependency {
    /// Which imports: `ns:pkg/interface@1.0.0`, with or without interface and version, or a plain name.
    pub(crate) name: String,
    /// The export to use, if its name differs from the import's.
    pub(crate) export: Option<String>,
    pub(crate) part: Part,
}

/// One layer of middleware: the first of these components that has the handler's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) parts: Vec<Part>,
    /// Whether a component that answers no HTTP may omit it.
    pub(crate) is_of_gateway: bool,
}

/// A part other than the main one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) digest: String,
    /// Keys of [`CAPABILITIES`](crate::host::CAPABILITIES).
    pub(crate) inherits: Vec<String>,
}

/// Why parts cannot be joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{summary}: {found}")]
pub(crate) struct Misfit {
    /// The part at fault: 0 is the main one, then dependencies, then middleware.
    pub(crate) part: usize,
    pub(crate) summary: String,
    pub(crate) found: String,
    pub(crate) wanted: String,
}

impl Misfit {
    pub(super) fn of(part: usize, summary: &str, found: impl Into<String>, wanted: &str) -> Self {
        Self { part, summary: summary.to_owned(), found: found.into(), wanted: wanted.to_owned() }
    }
}

/// A recipe with its parts, or what is wrong with it.
type Read<'i> = Result<(Recipe, Vec<&'i [u8]>), &'static str>;

impl Recipe {
    /// The identity of the composed component.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.head())
    }

    /// The digests of all parts, in the order of their numbers.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.main.as_str()).chain(self.others().map(|part| part.digest.as_str()))
    }

    pub(super) fn others(&self) -> impl Iterator<Item = &Part> {
        let dependencies = self.dependencies.iter().map(|dependency| &dependency.part);
        dependencies.chain(self.middleware.iter().flat_map(|step| &step.parts))
    }

    fn head(&self) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        // Cannot fail: texts and lists always have a JSON form.
        head.extend(serde_json::to_vec(self).unwrap_or_default());
        head.push(b'\n');
        head
    }

    /// The input for a child: a line with the recipe, then each part after its length.
    ///
    /// # Errors
    /// There are too many parts, or too many bytes in all.
    pub(crate) fn with(&self, parts: &[Vec<u8>]) -> Result<Vec<u8>, Misfit> {
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if parts.len() > PARTS_MAX || bytes > PARTS_BYTES_MAX {
            let max = PARTS_BYTES_MAX >> 20;
            let (found, wanted) = (parts.len(), format!("at most {PARTS_MAX} parts of {max} MiB together"));
            let found = format!("{found} parts of {} MiB", bytes >> 20);
            return Err(Misfit::of(0, "the parts are too large together", found, &wanted));
        }
        let mut whole = self.head();
        for part in parts {
            whole.extend((part.len() as u64).to_le_bytes());
            whole.extend(part);
        }
        Ok(whole)
    }

    /// Whether these bytes are a recipe with its parts.
    pub(super) fn is_one(input: &[u8]) -> bool {
        input.starts_with(MAGIC)
    }

    /// Reads a recipe. Nothing if the input is something else.
    pub(super) fn read(input: &[u8]) -> Option<Read<'_>> {
        let rest = input.strip_prefix(MAGIC)?;
        let read = || {
            let end = memchr::memchr(b'\n', rest).ok_or("the recipe has no end")?;
            let (head, mut rest) = rest.split_at_checked(end).ok_or("the recipe has no end")?;
            let recipe: Self = serde_json::from_slice(head).map_err(|_not_one| "the recipe cannot be read")?;
            rest = rest.get(1..).unwrap_or_default();
            let mut parts = Vec::new();
            while let Some((length, behind)) = rest.split_first_chunk() {
                let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_huge| "a part is too long")?;
                let (part, behind) = behind.split_at_checked(length).ok_or("a part is cut short")?;
                parts.push(part);
                rest = behind;
            }
            let is_whole = rest.is_empty() && parts.len() == 1 + recipe.others().count();
            if is_whole { Ok((recipe, parts)) } else { Err("there are other parts than the recipe has") }
        };
        Some(read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        let part = |digest: &str| Part { digest: digest.to_owned(), inherits: vec!["variables".to_owned()] };
        let dependency = Dependency { name: "acme:lib".to_owned(), export: None, part: part("b") };
        let step = Step { parts: vec![part("c"), part("d")], is_of_gateway: true };
        Recipe { main: "a".to_owned(), dependencies: vec![dependency], middleware: vec![step] }
    }

    #[test]
    fn a_recipe_is_read_as_it_was_written() {
        let parts: Vec<Vec<u8>> = (1..=4).map(|length| vec![7; length]).collect();
        let whole = recipe().with(&parts).unwrap();
        let (read, bytes) = Recipe::read(&whole).unwrap().unwrap();
        assert_eq!((read, bytes), (recipe(), parts.iter().map(Vec::as_slice).collect()));
        assert_eq!(recipe().digests().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert!(Recipe::read(b"\0asm\x0d\0\x01\0").is_none(), "a component is none");
        for cut in [MAGIC.len(), MAGIC.len() + 5, whole.len() - 1] {
            assert!(Recipe::read(&whole[..cut]).unwrap().is_err(), "cut at {cut}");
        }
        let fewer = recipe().with(&parts[..3]).unwrap();
        assert!(Recipe::read(&fewer).unwrap().is_err());
    }

    #[test]
    fn the_identity_depends_on_the_parts_and_how_they_are_joined() {
        let digest = recipe().digest();
        assert_eq!(digest, recipe().digest());
        let mut inherits_more = recipe();
        inherits_more.dependencies[0].part.inherits.clear();
        let mut other_part = recipe();
        other_part.main = "e".to_owned();
        assert!(inherits_more.digest() != digest && other_part.digest() != digest);
    }

    #[test]
    fn too_many_parts_and_too_large_ones_are_refused() {
        assert!(recipe().with(&vec![Vec::new(); PARTS_MAX]).is_ok());
        assert!(recipe().with(&vec![Vec::new(); PARTS_MAX + 1]).is_err());
    }
}
