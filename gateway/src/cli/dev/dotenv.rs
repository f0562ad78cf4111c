//! `.env` beside a manifest, and the environment: the values that Spin's own variable provider would find there.
//!
//! Source: Spin's documentation of its environment provider (`SPIN_VARIABLE_NAME`), and the format of the dotenv libraries.

use std::path::Path;

use anyhow::{Context as _, bail};

/// The prefix of a manifest's variable in the environment; its name follows in upper case.
const PREFIX: &str = "SPIN_VARIABLE_";
const FILE: &str = ".env";
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most bytes of all values after expansion.
const EXPANDED_BYTES_MAX: usize = 4 << 20;

/// Variables by their names in the manifest. The environment overrides the file.
///
/// # Errors
/// The file exists and is invalid.
pub(super) fn variables(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let environment = |name: &str| std::env::var(name).ok();
    let mut found: Vec<(String, String)> = Vec::new();
    let path = folder.join(FILE);
    if path.is_file() {
        let size = std::fs::metadata(&path).map_or(0, |file| file.len());
        anyhow::ensure!(size <= FILE_BYTES_MAX, "{} has more than {FILE_BYTES_MAX} bytes", path.display());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        found = read(&text, environment).with_context(|| path.display().to_string())?;
    }
    let all =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    found.extend(all);
    // The last one wins.
    let named = found.into_iter().rev().filter_map(|(name, value)| Some((own_name(&name)?, value)));
    let mut variables: Vec<(String, String)> = Vec::new();
    for (name, value) in named {
        if variables.iter().all(|(known, _)| *known != name) {
            variables.push((name, value));
        }
    }
    Ok(variables)
}

fn own_name(name: &str) -> Option<String> {
    let name = name.strip_prefix(PREFIX).filter(|name| !name.bytes().any(|byte| byte.is_ascii_lowercase()))?;
    Some(name.to_ascii_lowercase())
}

/// The entries of the file, in order.
///
/// # Errors
/// A line is neither `NAME=VALUE` nor a comment nor empty.
fn read(text: &str, environment: impl Fn(&str) -> Option<String>) -> anyhow::Result<Vec<(String, String)>> {
    let mut entries: Vec<(String, String)> = Vec::new();
    let (mut rest, mut number, mut bytes) = (text, 1, 0);
    while !rest.is_empty() {
        let begun = rest;
        let line = rest.split('\n').next().unwrap_or_default();
        let entry = line.trim_start();
        if entry.trim_end().is_empty() || entry.starts_with('#') {
            rest = rest.get(line.len() + 1..).unwrap_or_default();
        } else {
            let entry = entry.strip_prefix("export ").unwrap_or(entry);
            let Some((name, _)) = entry.split_once('=') else { bail!("line {number} has no `=`") };
            let name = name.trim();
            let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
            if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) || !name.bytes().all(good) {
                bail!("line {number}: {name:?} is not a valid variable name");
            }
            let (_, value) = rest.split_once('=').unwrap_or_default();
            let known = |name: &str| {
                let of_file = || entries.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
                environment(name).or_else(of_file).unwrap_or_default()
            };
            let (value, after) = value_of(value, known).with_context(|| format!("line {number}"))?;
            bytes += value.len();
            if bytes > EXPANDED_BYTES_MAX {
                bail!("line {number}: all values together have more than {EXPANDED_BYTES_MAX} bytes");
            }
            entries.push((name.to_owned(), value));
            rest = after;
        }
        number += begun.get(..begun.len() - rest.len()).unwrap_or_default().matches('\n').count();
    }
    Ok(entries)
}

/// Parses a value, which may be quoted and then span several lines, and returns what follows its line.
fn value_of(text: &str, known: impl Fn(&str) -> String) -> anyhow::Result<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let (mut value, mut quote) = (String::new(), None);
    let mut chars = text.char_indices().peekable();
    let mut is_over = false;
    while let Some((at, letter)) = chars.next() {
        match (quote, letter) {
            (None, '\n') => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            (None, ' ' | '\t' | '\r') => is_over = true,
            (None, '#') if is_over => {
                let after = text.get(at..).and_then(|rest| rest.split_once('\n')).map_or("", |(_, after)| after);
                return Ok((value, after));
            }
            (None, _) if is_over => bail!("a value with spaces requires quotation marks"),
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if letter == open => quote = None,
            (None | Some('"'), '\\') => match chars.next() {
                Some((_, 'n')) if quote.is_some() => value.push('\n'),
                Some((_, escaped @ ('\\' | '"' | '\'' | '$' | ' '))) => value.push(escaped),
                Some((_, other)) => bail!("unknown escape \\{other}"),
                None => bail!("a backslash is at the end and escapes nothing"),
            },
            (None | Some('"'), '$') => {
                let rest = text.get(at + 1..).unwrap_or_default();
                let (name, length) = reference(rest);
                value += &known(name);
                if value.len() > EXPANDED_BYTES_MAX {
                    bail!("its value has more than {EXPANDED_BYTES_MAX} bytes");
                }
                for _ in 0..length {
                    chars.next();
                }
            }
            _ => value.push(letter),
        }
    }
    if quote.is_some() {
        bail!("a quotation mark has no closing quotation mark");
    }
    Ok((value, ""))
}

/// Parses the name after a `$`, with or without braces, and returns the length of both.
fn reference(rest: &str) -> (&str, usize) {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if let Some(braced) = rest.strip_prefix('{') {
        // A name ends at the first character that is not allowed in names, so that no text is scanned twice.
        let end = braced.find(|letter| !is_of_name(letter)).unwrap_or(braced.len());
        if let (Some(name), Some(after)) = (braced.get(..end), braced.get(end..))
            && after.starts_with('}')
        {
            return (name, end + 2);
        }
        return ("", 0);
    }
    let end = rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len());
    (rest.get(..end).unwrap_or_default(), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> anyhow::Result<Vec<(String, String)>> {
        read(text, |name| (name == "HOME").then(|| "/home/me".to_owned()))
    }

    #[test]
    fn the_file_is_parsed_as_dotenv_does() {
        let text = "# a comment\n\nexport A=1\nB = two # and this\nC='$A $HOME \\n'\nD=\"$A ${HOME}/x\\n\\\"q\\\"\"\n\
                    E=\nF=\"two\nlines\"\r\nG=a#b\n  H=last";
        let wanted = [
            ("A", "1"),
            ("B", "two"),
            ("C", "$A $HOME \\n"),
            ("D", "1 /home/me/x\n\"q\""),
            ("E", ""),
            ("F", "two\nlines"),
            ("G", "a#b"),
            ("H", "last"),
        ];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(values(text).unwrap(), wanted);
    }

    #[test]
    fn a_bad_line_is_reported_with_its_number() {
        for (text, wanted) in [
            ("A=1\nno sign\n", "line 2 has no `=`"),
            ("A=\"x\ny\"\n1B=2", "line 3: \"1B\" is not a valid"),
            ("A=two words", "line 1"),
            ("A=\"open", "line 1"),
        ] {
            let error = values(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
    }

    #[test]
    fn expanded_values_are_bounded() {
        let mut text = "A0=0123456789\n".to_owned();
        for n in 1..9 {
            text += &format!("A{n}=\"{}\"\n", format!("${{A{}}}", n - 1).repeat(10));
        }
        let error = format!("{:#}", values(&text).unwrap_err());
        assert!(error.contains("more than 4194304 bytes"), "{error}");
        assert_eq!(values("A=\"${${HOME}\"").unwrap()[0].1, "{/home/me");
    }

    #[test]
    fn only_spins_names_are_variables() {
        assert_eq!(own_name("SPIN_VARIABLE_API_KEY").as_deref(), Some("api_key"));
        assert_eq!(own_name("SPIN_VARIABLE_api_key"), None);
        assert_eq!(own_name("API_KEY"), None);
    }
}
