//! Chooses the coding that a client accepts (RFC 9110 §12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use crate::tenant::Coding;

/// Returns the offered coding that the client prefers, and among equals the first. Nothing if the client prefers the body
/// as it is.
pub(crate) fn choose(headers: &HeaderMap, offered: &[Coding]) -> Option<Coding> {
    let lists = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let wanted: Vec<(&str, u16)> = lists.flat_map(|list| list.split(',')).filter_map(weighted).collect();
    let weight = |name: &str| {
        let of =
            |name: &str| wanted.iter().find(|(wanted, _)| wanted.eq_ignore_ascii_case(name)).map(|(_, weight)| *weight);
        of(name).or_else(|| (name == "gzip").then(|| of("x-gzip")).flatten()).or_else(|| of("*"))
    };
    let mut best: Option<(Coding, u16)> = None;
    for coding in offered {
        let weight = weight(coding.name()).unwrap_or(0);
        if weight > best.map_or(0, |(_, best)| best) {
            best = Some((*coding, weight));
        }
    }
    let as_it_is =
        wanted.iter().find(|(name, _)| name.eq_ignore_ascii_case("identity")).map_or(0, |(_, weight)| *weight);
    best.filter(|(_, weight)| *weight >= as_it_is).map(|(coding, _)| coding)
}

/// Parses `gzip;q=0.5` as a name and thousandths. Nothing if it is malformed.
fn weighted(word: &str) -> Option<(&str, u16)> {
    let mut parts = word.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let Some(quality) = parts.next() else { return Some((name, 1000)) };
    let (key, value) = quality.split_once('=')?;
    let value: f32 = value.trim().parse().ok().filter(|value| (0.0..=1.0).contains(value))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1000")]
    let thousandths = (value * 1000.0).round() as u16;
    key.trim().eq_ignore_ascii_case("q").then_some((name, thousandths))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses_the_coding_and_the_tenant_breaks_ties() {
        let all = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
        let choose = |text: &str| {
            let mut headers = HeaderMap::new();
            for list in text.split('|') {
                headers.append(ACCEPT_ENCODING, list.parse().unwrap());
            }
            choose(&headers, &all).map(Coding::name)
        };
        assert_eq!(choose("gzip, deflate, br, zstd"), Some("zstd"));
        assert_eq!(choose("gzip, deflate|br"), Some("br"));
        assert_eq!(choose("GZIP"), Some("gzip"));
        assert_eq!(choose("x-gzip"), Some("gzip"));
        assert_eq!(choose("gzip;q=1.0, br;q=0.5, zstd;q=0"), Some("gzip"));
        assert_eq!(choose("*"), Some("zstd"));
        assert_eq!(choose("*;q=0.1, zstd;q=0"), Some("br"));
        assert_eq!(choose("gzip;q=0.5, identity"), None, "rather as it is");
        assert_eq!(choose("deflate"), None);
        assert_eq!(choose("gzip;q=2, br;q=x"), None, "what is not well formed is not said");
        assert_eq!(super::choose(&HeaderMap::new(), &all), None);
    }
}
