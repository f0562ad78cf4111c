//! Bytes in JSON: as a text if they are printable text, and otherwise as `{"base64": "…"}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A key or a value in a file, or on the operators' listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Shape {
    Plain(String),
    Encoded { base64: String },
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // A control character takes six bytes in JSON.
        match str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n') => to.serialize_str(text),
            _ => Shape::Encoded { base64: STANDARD.encode(&self.0) }.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Shape::deserialize(from)? {
            Shape::Plain(text) => Ok(Self(text.into_bytes())),
            Shape::Encoded { base64 } => STANDARD.decode(base64).map(Self).map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_round_trip(bytes: Vec<u8>) {
            let json = serde_json::to_string(&Text(bytes.clone())).unwrap();
            prop_assert!(!json.contains('\n'), "one line");
            prop_assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), Text(bytes));
        }
    }

    #[test]
    fn a_text_stays_readable() {
        assert_eq!(serde_json::to_string(&Text(b"caf\xc3\xa9".to_vec())).unwrap(), "\"café\"");
        assert_eq!(serde_json::to_string(&Text(vec![0xff])).unwrap(), r#"{"base64":"/w=="}"#);
        assert_eq!(serde_json::to_string(&Text(vec![1])).unwrap(), r#"{"base64":"AQ=="}"#);
        assert!(serde_json::from_str::<Text>(r#"{"base64":"!"}"#).is_err());
    }
}
