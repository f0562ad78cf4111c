//! Every kind of problem that a configuration can have: its code, its name, its severity, and its explanation.
//!
//! A code is never reused for something else, because operators write it into their own notes. The hundreds say where to
//! look: 1 files, 2 certificates, 3 components, 4 Spin manifests, 5 the machine.

macro_rules! kinds {
    ($($name:ident $code:literal $words:literal,)*) => {
        /// What is wrong, as a closed list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Kind {
            $(#[doc = concat!($code, " ", $words)] $name,)*
        }

        impl Kind {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// Such as `E0104`. A code with `W` is a warning, which stops no tenant from being served. A code with `N` is a
            /// notice about something that is correct.
            pub(crate) const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// Such as `host-conflict`.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)*
                }
            }
        }
    };
}

kinds! {
    NotToml "E0101" "not-toml",
    UnknownKey "E0102" "unknown-key",
    MissingKey "E0103" "missing-key",
    HostConflict "E0104" "host-conflict",
    BadValue "E0105" "bad-value",
    MissingUnit "E0106" "missing-unit",
    Unreadable "E0107" "unreadable",
    BadName "E0108" "bad-name",
    Duplicate "E0109" "duplicate",
    TooMany "E0110" "too-many",
    AboveCeiling "E0111" "above-ceiling",
    UnknownComponent "E0112" "unknown-component",
    SmallShards "E0113" "small-shards",
    KeysDisagree "E0114" "keys-disagree",
    BadCertificate "E0201" "bad-certificate",
    NoCertificate "E0202" "no-certificate",
    HostNotCovered "E0203" "host-not-covered",
    CertificateExpired "E0204" "certificate-expired",
    CertificateExpires "W0205" "certificate-expires",
    CertificateUsage "E0206" "certificate-usage",
    CertificateChain "E0207" "certificate-chain",
    CertificateOver "W0208" "certificate-over",
    CertificateDoubtful "W0209" "certificate-doubtful",
    NotAComponent "E0301" "not-a-component",
    UnservedImport "E0302" "unserved-import",
    NoHandler "E0303" "no-handler",
    WrongHandler "E0304" "wrong-handler",
    NoListener "E0305" "no-listener",
    StoreNotGranted "E0306" "store-not-granted",
    RedisNotGranted "E0307" "redis-not-granted",
    MemoryLimit "E0308" "memory-limit",
    CompileLimit "E0309" "compile-limit",
    CompileFailed "E0310" "compile-failed",
    NotFetched "E0311" "not-fetched",
    IdleComponent "W0312" "idle-component",
    NoTimed "E0315" "no-cron-handler",
    PartsMisfit "E0320" "parts-do-not-fit",
    NotServed "E0401" "not-served",
    MissingVariable "E0402" "missing-variable",
    BadFiles "E0403" "bad-files",
    RedisStandIn "N0404" "redis-stand-in",
    ChannelStandIn "N0405" "channel-stand-in",
    ShadowedRoute "W0406" "shadowed-route",
    WithoutEffect "W0407" "without-effect",
    NoTenantFile "W0408" "no-tenant-file",
    MemoryBudget "W0501" "memory-budget",
    DescriptorBudget "W0502" "descriptor-budget",
    AdminExposed "W0503" "admin-exposed",
    Swap "W0504" "memory-may-swap",
    UncleanSlots "W0505" "slots-not-clean",
    NotApart "E0506" "tenants-not-apart",
    NotConfined "W0507" "not-confined",
    DataLeftBehind "W0508" "data-left-behind",
}

/// The explanations, each below a heading with its code. The documentation has the same text.
const STORIES: &str = include_str!("../../../docs/problems.md");

impl Kind {
    /// Whether nothing is wrong and this is only information.
    pub(crate) const fn is_notice(self) -> bool {
        matches!(self.code().as_bytes(), [b'N', ..])
    }

    /// Whether tenants are served despite this.
    pub(crate) const fn is_warning(self) -> bool {
        matches!(self.code().as_bytes(), [b'W', ..])
    }

    /// Finds a kind by its code or its name, in any case.
    pub(crate) fn find(text: &str) -> Option<Self> {
        let is_it = |kind: &&Self| text.eq_ignore_ascii_case(kind.code()) || text.eq_ignore_ascii_case(kind.name());
        Self::ALL.iter().find(is_it).copied()
    }

    /// What it means, what the gateway does meanwhile, and how to fix it.
    pub(crate) fn story(self) -> &'static str {
        let heading = [self.code(), self.name()].join(" ");
        let mut stories = STORIES.split("\n## ").skip(1);
        stories.find(|story| story.lines().next() == Some(heading.as_str())).unwrap_or_default().trim_end()
    }

    /// What to do, if the kind alone says that.
    pub(crate) fn hint(self) -> Option<&'static str> {
        HINTS.iter().find(|(kind, _)| *kind == self).map(|(_, hint)| *hint)
    }
}

const HINTS: [(Kind, &str); 18] = [
    (Kind::MissingUnit, "put the number and its unit in quotes"),
    (Kind::MissingKey, "write it as `wanted` shows"),
    (Kind::Unreadable, "correct the path, which is relative to this file, or create the file"),
    (Kind::Duplicate, "remove one of them, or give each a different name"),
    (Kind::TooMany, "one route that ends in `/...` matches all paths below it"),
    (Kind::NoCertificate, "list each host by name, or provide a certificate for the wildcard"),
    (Kind::BadCertificate, "`openssl x509 -noout -text -in FILE` shows what a file contains"),
    (
        Kind::CertificateUsage,
        "get a certificate with the extended key usage serverAuth and the key usage digitalSignature",
    ),
    (Kind::CertificateChain, "use the file that the CA calls the full chain"),
    (
        Kind::CertificateDoubtful,
        "use the file that the CA calls the full chain; for a CA of your own, add its root to `tls.roots`",
    ),
    (Kind::BadFiles, "paths and patterns are relative to this file and stay below its folder"),
    (Kind::NotFetched, "if the registry is only down, do nothing: the gateway tries again every ten seconds"),
    (
        Kind::MissingVariable,
        "or set TOLLGATE_VARIABLE__TENANT__NAME in the gateway's environment, or start `tollgate up` with --variable \
            NAME=VALUE",
    ),
    (Kind::NotServed, "remove it, or run this application elsewhere"),
    (Kind::BadValue, "correct the value, or remove the key to use the default"),
    (Kind::KeysDisagree, "remove one of them"),
    (Kind::ShadowedRoute, "remove one of them; Spin chooses the same one"),
    (Kind::WithoutEffect, "remove it, or keep it if this application also runs elsewhere"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandboxs_problems_are_explained_here() {
        assert_eq!((Kind::Swap.code(), Kind::UncleanSlots.code()), (crate::sandbox::SWAP, crate::sandbox::UNCLEAN));
        // The canary is above this room and so spells the code itself.
        assert_eq!(Kind::NotApart.code(), "E0506");
    }

    #[test]
    fn every_kind_has_its_own_code_and_an_explanation() {
        let mut codes = std::collections::BTreeSet::new();
        for kind in Kind::ALL {
            assert!(codes.insert(kind.code()) && codes.insert(kind.name()), "{kind:?} is there twice");
            let story = kind.story();
            assert!(story.lines().count() > 2, "docs/problems.md has no story of {} {}", kind.code(), kind.name());
            assert_eq!((Kind::find(kind.code()), Kind::find(kind.name())), (Some(*kind), Some(*kind)));
        }
        assert_eq!(
            STORIES.matches("\n## ").count(),
            Kind::ALL.len(),
            "docs/problems.md tells of something else as well"
        );
    }
}
