//! Why a request was not answered as its tenant wished: a closed list without HTTP in it.
//!
//! `response` maps each fault to a status. `telemetry` uses [`Fault::kind`] as a label and [`Fault::blame`] for the log
//! level.

/// Everything that can fail on the road of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("no tenant serves this host and path")]
    NoRoute,
    #[error("the TLS server name and the `Host` header belong to different tenants")]
    Misdirected,
    #[error("the request is malformed")]
    BadRequest,
    #[error("the request has invalid framing: {0}")]
    Framing(&'static str),
    #[error("the request head exceeds its limit")]
    HeadTooLarge,
    #[error("the request head did not arrive in time")]
    HeadTimeout,
    #[error("the request asks for a protocol upgrade or a tunnel (CONNECT), which the gateway does not support")]
    NotSupported,
    #[error("the request body exceeds its limit")]
    BodyTooLarge,
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    #[error("the client closed the connection or cancelled the request")]
    ClientGone,
    #[error("the client was too slow while other requests waited for its place")]
    ClientSlow,
    #[error("the request exceeds the tenant's quota `{}`", .0.name())]
    Quota(QuotaKind),
    #[error("the request came back to a tenant that it visited before, or too many requests of components led to it")]
    Loop,
    #[error("the component trapped")]
    Trap,
    #[error("the component exhausted its stack")]
    Stack,
    #[error("the component exhausted the fuel of one request")]
    Fuel,
    #[error("the component needed more memory than one request may use")]
    Memory,
    #[error("the component ended without a response")]
    NoResponse,
    #[error("the component's response is invalid")]
    BadResponse,
    #[error("the component waited for space in a response body before it returned the response")]
    Stuck,
    #[error("the component did not finish in time")]
    Deadline,
    #[error("no instance became free in time, or the gateway has no memory for it")]
    Overload,
    #[error("the tenant is suspended")]
    Suspended,
    #[error("the gateway replaced its engines, because the isolation of tenants was in doubt")]
    Renewed,
    #[error("the tenant's component is still being compiled")]
    Loading,
    #[error("the gateway had an internal error")]
    Internal,
}

/// The kinds of a tenant's quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum QuotaKind {
    Requests,
    /// The rate limit of one client address.
    RequestsPerAddress,
    Fuel,
    InFlight,
    Connections,
    Waiting,
    Memory,
    BodyBytes,
    StorageOps,
    StorageBytes,
    /// Bytes and keys that the tenant has in the store.
    Storage,
    Outbound,
    OutboundInFlight,
    LogBytes,
}

impl QuotaKind {
    /// Every quota.
    pub(crate) const ALL: [Self; 14] = [
        Self::Requests,
        Self::RequestsPerAddress,
        Self::Fuel,
        Self::InFlight,
        Self::Connections,
        Self::Waiting,
        Self::Memory,
        Self::BodyBytes,
        Self::StorageOps,
        Self::StorageBytes,
        Self::Storage,
        Self::Outbound,
        Self::OutboundInFlight,
        Self::LogBytes,
    ];

    /// The stable name: metric label, policy name in the `RateLimit` fields, first word of a guest's error.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::RequestsPerAddress => "requests-per-address",
            Self::Fuel => "fuel",
            Self::InFlight => "in-flight",
            Self::Connections => "connections",
            Self::Waiting => "waiting",
            Self::Memory => "memory",
            Self::BodyBytes => "body-bytes",
            Self::StorageOps => "storage-ops",
            Self::StorageBytes => "storage-bytes",
            Self::Storage => "storage",
            Self::Outbound => "outbound",
            Self::OutboundInFlight => "outbound-in-flight",
            Self::LogBytes => "log-bytes",
        }
    }

    /// The fault kind of a request that this quota refuses. For storage, outbound requests and log lines the guest gets an
    /// error instead; they have a kind only to keep the list complete.
    const fn kind(self) -> &'static str {
        match self {
            Self::Requests => "quota-requests",
            Self::RequestsPerAddress => "quota-requests-per-address",
            Self::Fuel => "quota-fuel",
            Self::InFlight => "quota-in-flight",
            Self::Connections => "quota-connections",
            Self::Waiting => "quota-waiting",
            Self::Memory => "quota-memory",
            Self::BodyBytes => "quota-body-bytes",
            Self::StorageOps => "quota-storage-ops",
            Self::StorageBytes => "quota-storage-bytes",
            Self::Storage => "quota-storage",
            Self::Outbound => "quota-outbound",
            Self::OutboundInFlight => "quota-outbound-in-flight",
            Self::LogBytes => "quota-log-bytes",
        }
    }
}

/// Who is to blame for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    Client,
    Tenant,
    Gateway,
}

impl Fault {
    /// Every fault, for metrics that start at zero and for tests.
    pub(crate) const ALL: [Self; 32] = [
        Self::NoRoute,
        Self::Misdirected,
        Self::BadRequest,
        Self::Framing("a line does not end in CR LF"),
        Self::HeadTooLarge,
        Self::HeadTimeout,
        Self::NotSupported,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::ClientGone,
        Self::ClientSlow,
        Self::Quota(QuotaKind::Requests),
        Self::Quota(QuotaKind::RequestsPerAddress),
        Self::Quota(QuotaKind::Fuel),
        Self::Quota(QuotaKind::InFlight),
        Self::Quota(QuotaKind::Waiting),
        Self::Quota(QuotaKind::Memory),
        Self::Quota(QuotaKind::BodyBytes),
        Self::Loop,
        Self::Trap,
        Self::Stack,
        Self::Fuel,
        Self::Memory,
        Self::NoResponse,
        Self::BadResponse,
        Self::Stuck,
        Self::Deadline,
        Self::Overload,
        Self::Suspended,
        Self::Renewed,
        Self::Loading,
        Self::Internal,
    ];

    /// The fault with which the gateway stops a tenant's running work.
    pub(crate) const fn stopped(is_suspended: bool) -> Self {
        if is_suspended { Self::Suspended } else { Self::Renewed }
    }

    /// The stable name: metric label, log field, and the end of the `type` of an error body (RFC 9457).
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::Misdirected => "misdirected",
            Self::BadRequest => "bad-request",
            Self::Framing(_) => "framing",
            Self::HeadTooLarge => "head-too-large",
            Self::HeadTimeout => "head-timeout",
            Self::NotSupported => "not-supported",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyTimeout => "body-timeout",
            Self::ClientGone => "client-gone",
            Self::ClientSlow => "client-slow",
            Self::Quota(quota) => quota.kind(),
            Self::Loop => "loop",
            Self::Trap => "trap",
            Self::Stack => "stack-exhausted",
            Self::Fuel => "fuel-exhausted",
            Self::Memory => "memory-exhausted",
            Self::NoResponse => "no-response",
            Self::BadResponse => "bad-response",
            Self::Stuck => "stuck",
            Self::Deadline => "deadline",
            Self::Overload => "overload",
            Self::Suspended => "suspended",
            Self::Renewed => "renewed",
            Self::Loading => "loading",
            Self::Internal => "internal",
        }
    }

    pub(crate) const fn blame(self) -> Blame {
        match self {
            Self::NoRoute
            | Self::Misdirected
            | Self::BadRequest
            | Self::Framing(_)
            | Self::HeadTooLarge
            | Self::HeadTimeout
            | Self::NotSupported
            | Self::BodyTooLarge
            | Self::BodyTimeout
            | Self::ClientGone
            | Self::ClientSlow
            | Self::Quota(QuotaKind::RequestsPerAddress) => Blame::Client,
            Self::Quota(_)
            | Self::Loop
            | Self::Trap
            | Self::Stack
            | Self::Fuel
            | Self::Memory
            | Self::NoResponse
            | Self::BadResponse
            | Self::Stuck
            | Self::Deadline
            | Self::Suspended => Blame::Tenant,
            Self::Overload | Self::Loading | Self::Renewed | Self::Internal => Blame::Gateway,
        }
    }

    /// After how many seconds a retry may succeed. Nothing if a retry does not help.
    pub(crate) const fn retry_seconds(self) -> Option<u64> {
        match self {
            Self::Quota(_) | Self::Overload | Self::Renewed => Some(1),
            Self::Loading => Some(5),
            Self::NoRoute
            | Self::Misdirected
            | Self::BadRequest
            | Self::Framing(_)
            | Self::HeadTooLarge
            | Self::HeadTimeout
            | Self::NotSupported
            | Self::BodyTooLarge
            | Self::BodyTimeout
            | Self::ClientGone
            | Self::ClientSlow
            | Self::Loop
            | Self::Trap
            | Self::Stack
            | Self::Fuel
            | Self::Memory
            | Self::NoResponse
            | Self::BadResponse
            | Self::Stuck
            | Self::Deadline
            | Self::Suspended
            | Self::Internal => None,
        }
    }
}
