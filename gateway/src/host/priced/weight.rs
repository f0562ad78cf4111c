//! The price in fuel of the values that a host call carries: a price for each text and list, and for their bytes.
//!
//! It counts bytes and not time, so that a call costs the same on every run.

use wasmtime::component::Resource;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::bindings::http::types as http_two;
use wasmtime_wasi_http::p3::bindings::http::types as http_three;

use crate::tenant::cost::{CARRIED_BYTES_A_UNIT, CARRIED_TEXT};

/// A value that a call lifts from its guest or lowers to it.
pub(in crate::host) trait Weight {
    /// For types without a text or a list: the price, one for each [`CARRIED_BYTES_A_UNIT`] bytes.
    const FIXED: Option<u64> = None;

    fn weight(&self) -> u64;
}

/// The price of a text or a list of bytes.
pub(in crate::host) const fn of_bytes(bytes: usize) -> u64 {
    CARRIED_TEXT.saturating_add(bytes as u64 / CARRIED_BYTES_A_UNIT)
}

/// The price of a set of header fields.
pub(in crate::host) fn of_fields(fields: &FieldMap) -> u64 {
    let each = fields.iter().map(|(name, value)| of_bytes(name.as_str().len()).saturating_add(of_bytes(value.len())));
    each.fold(0, u64::saturating_add)
}

impl Weight for String {
    fn weight(&self) -> u64 {
        of_bytes(self.len())
    }
}

impl<T: Weight> Weight for Vec<T> {
    /// Limit: for each element that contains something, this takes less time than lifting it did.
    fn weight(&self) -> u64 {
        let all = match T::FIXED {
            Some(each) => each.saturating_mul(self.len() as u64) / CARRIED_BYTES_A_UNIT,
            None => self.iter().map(Weight::weight).fold(0, u64::saturating_add),
        };
        CARRIED_TEXT.saturating_add(all)
    }
}

impl<T: Weight> Weight for Option<T> {
    fn weight(&self) -> u64 {
        self.as_ref().map_or(0, Weight::weight)
    }
}

impl<T: Weight, E: Weight> Weight for Result<T, E> {
    fn weight(&self) -> u64 {
        match self {
            Ok(value) => value.weight(),
            Err(error) => error.weight(),
        }
    }
}

/// The call that created the resource has paid for it, but finding and lending it is not free.
impl<T: 'static> Weight for Resource<T> {
    const FIXED: Option<u64> = Some(CARRIED_TEXT * CARRIED_BYTES_A_UNIT);

    fn weight(&self) -> u64 {
        CARRIED_TEXT
    }
}

impl Weight for u8 {
    const FIXED: Option<u64> = Some(1);

    fn weight(&self) -> u64 {
        1
    }
}

macro_rules! tuples {
    ($(($($name:ident)*))*) => {$(
        impl<$($name: Weight),*> Weight for ($($name,)*) {
            #[expect(non_snake_case, reason = "a type's name stands for its value")]
            fn weight(&self) -> u64 {
                let ($($name,)*) = self;
                0_u64 $(.saturating_add($name.weight()))*
            }
        }
    )*};
}
tuples! { (A) (A B) (A B C) (A B C D) }

impl Weight for () {
    const FIXED: Option<u64> = Some(0);

    fn weight(&self) -> u64 {
        0
    }
}

/// Types of a few words at most.
macro_rules! small {
    ($($kind:ty,)*) => {$(
        impl Weight for $kind {
            const FIXED: Option<u64> = Some(8 * $crate::tenant::cost::CARRIED_BYTES_A_UNIT);

            fn weight(&self) -> u64 {
                8
            }
        }
    )*};
}
pub(super) use small;

mod two {
    use wasmtime_wasi::p2::bindings::{clocks::wall_clock, filesystem::types, io::streams, sockets::network};

    use super::{Weight, http_two};

    small! {
        bool, u16, u32, u64,
        http_two::HeaderError, streams::StreamError, wall_clock::Datetime,
        types::ErrorCode, types::Advice, types::DescriptorFlags, types::DescriptorType, types::DescriptorStat,
        types::MetadataHashValue, types::NewTimestamp, types::OpenFlags, types::PathFlags,
        network::ErrorCode, network::IpAddressFamily, network::IpAddress,
    }

    impl Weight for types::DirectoryEntry {
        fn weight(&self) -> u64 {
            self.name.weight()
        }
    }
}

mod three {
    use wasmtime_wasi::p3::bindings::{clocks::system_clock, filesystem::types, sockets::ip_name_lookup};

    use super::{Weight, http_three};

    small! {
        http_three::HeaderError, http_three::RequestOptionsError, system_clock::Instant,
        ip_name_lookup::IpAddress,
        types::DescriptorFlags, types::MetadataHashValue, types::NewTimestamp, types::OpenFlags, types::PathFlags,
    }

    impl Weight for types::DescriptorStat {
        fn weight(&self) -> u64 {
            if let types::DescriptorType::Other(text) = &self.type_ { text.weight() } else { 8 }
        }
    }

    impl Weight for types::ErrorCode {
        fn weight(&self) -> u64 {
            if let Self::Other(text) = self { text.weight() } else { 8 }
        }
    }

    impl Weight for ip_name_lookup::ErrorCode {
        fn weight(&self) -> u64 {
            if let Self::Other(text) = self { text.weight() } else { 8 }
        }
    }
}

/// Both versions of wasi:http have the same types that contain texts.
macro_rules! of_http {
    ($($http:ident)*) => {$(
        impl Weight for $http::Method {
            fn weight(&self) -> u64 {
                if let Self::Other(text) = self { text.weight() } else { 8 }
            }
        }

        impl Weight for $http::Scheme {
            fn weight(&self) -> u64 {
                if let Self::Other(text) = self { text.weight() } else { 8 }
            }
        }

        impl Weight for $http::ErrorCode {
            fn weight(&self) -> u64 {
                let text = match self {
                    Self::DnsError(payload) => &payload.rcode,
                    Self::TlsAlertReceived(payload) => &payload.alert_message,
                    Self::HttpRequestHeaderSize(Some(payload))
                    | Self::HttpRequestTrailerSize(payload)
                    | Self::HttpResponseHeaderSize(payload)
                    | Self::HttpResponseTrailerSize(payload) => &payload.field_name,
                    Self::HttpResponseTransferCoding(text)
                    | Self::HttpResponseContentCoding(text)
                    | Self::InternalError(text) => text,
                    _ => &None,
                };
                8 + text.weight()
            }
        }
    )*};
}
of_http! { http_two http_three }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_of_a_call_counts_its_texts_lists_and_bytes() {
        assert_eq!("twelve bytes".to_owned().weight(), CARRIED_TEXT + 3);
        assert_eq!(vec![0_u8; 1000].weight(), CARRIED_TEXT + 250);
        assert_eq!(vec![0_u64; 1000].weight(), CARRIED_TEXT + 8000);
        let headers = vec![("name".to_owned(), vec![0_u8; 8]); 10];
        assert_eq!(headers.weight(), CARRIED_TEXT + 10 * (2 * CARRIED_TEXT + 3));
        assert_eq!(
            vec![String::new(); 1_000_000].weight(),
            1_000_001 * CARRIED_TEXT,
            "nothing at all, a million times"
        );
        assert_eq!((None::<String>, Ok::<u8, ()>(1)).weight(), 1);
        assert_eq!(Err::<u8, String>("no way".to_owned()).weight(), CARRIED_TEXT + 1);
        let long = http_two::ErrorCode::InternalError(Some("x".repeat(5000)));
        assert!(long.weight() > 1250, "an error that a guest made up");
    }
}
