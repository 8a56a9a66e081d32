//! Kinds of NAT (RFC 4787), by the words that clients use.

/// What kind of NAT a peer is behind, in the words of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NatType {
    /// Not known.
    #[default]
    Unknown,
    /// None.
    Open,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    RestrictedCone,
    /// Endpoint-independent mapping, address- and port-dependent filtering.
    PortRestrictedCone,
    /// Address- and port-dependent mapping.
    Symmetric,
}

impl NatType {
    /// All of them.
    pub const ALL: [NatType; 6] = [
        NatType::Unknown,
        NatType::Open,
        NatType::FullCone,
        NatType::RestrictedCone,
        NatType::PortRestrictedCone,
        NatType::Symmetric,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            NatType::Unknown => "unknown",
            NatType::Open => "open",
            NatType::FullCone => "full_cone",
            NatType::RestrictedCone => "restricted_cone",
            NatType::PortRestrictedCone => "port_restricted_cone",
            NatType::Symmetric => "symmetric",
        }
    }

    /// The type that a word on the wire means.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|nat| nat.as_str() == text)
    }
}
