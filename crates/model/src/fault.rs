//! Every way a request can fail: one table from the fault to what a client sees of it.
//!
//! A [`Fault`] carries a message for the client (what was wrong and what would be right) and a detail for the log (what
//! really happened). [`FaultKind`] says the rest: the Neutron type name that clients switch on, the HTTP status, and
//! whether trying again can help.

use std::fmt;

/// Whether the same request can succeed later without being changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The request itself is wrong.
    Never,
    /// The state of other resources or of a switch stands against it.
    WhenStateChanges,
    /// The server could not serve it just now.
    Later,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $kind:ident => $type:literal, $status:literal, $retry:ident;)*) => {
        /// The kinds of faults. Type names are those of networking-l2gw 22.0.0 and neutron-lib 5.0.1 where they have
        /// one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FaultKind { $($(#[$doc])* $kind,)* }

        impl FaultKind {
            /// All kinds, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// `type` of the NeutronError body.
            pub const fn type_name(self) -> &'static str {
                match self { $(Self::$kind => $type,)* }
            }

            /// The HTTP status code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)* }
            }

            /// Whether trying again can help.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$kind => Retry::$retry,)* }
            }
        }
    };
}

faults! {
    /// An attribute or the body has a wrong shape.
    InvalidBody => "HTTPBadRequest", 400, Never;
    /// A value that passed its shape is refused.
    InvalidInput => "InvalidInput", 400, Never;
    /// A network is given its segments in two ways.
    SegmentsSetInConjunctionWithProviders => "SegmentsSetInConjunctionWithProviders", 400, Never;
    /// Two segments of a network are the same.
    SegmentsContainDuplicateEntry => "SegmentsContainDuplicateEntry", 400, Never;
    /// A query parameter or header is wrong.
    InvalidRequest => "BadRequest", 400, Never;
    /// The body is no JSON.
    MalformedBody => "MalformedRequestBody", 400, Never;
    /// The caller is not known.
    Unauthenticated => "Unauthorized", 401, Never;
    /// The caller may not do this.
    AdminRequired => "AdminRequired", 403, Never;
    /// The path leads nowhere.
    NoSuchPath => "HTTPNotFound", 404, Never;
    /// No such network.
    NetworkNotFound => "NetworkNotFound", 404, WhenStateChanges;
    /// No such port.
    PortNotFound => "PortNotFound", 404, WhenStateChanges;
    /// No such gateway.
    L2GatewayNotFound => "L2GatewayNotFound", 404, WhenStateChanges;
    /// No such connection.
    L2GatewayConnectionNotFound => "L2GatewayConnectionNotFound", 404, WhenStateChanges;
    /// A physical switch of that name was never seen, or the gateway has no such device.
    L2GatewayDeviceNotFound => "L2GatewayDeviceNotFound", 404, WhenStateChanges;
    /// The switch has no port of that name.
    L2GatewayInterfaceNotFound => "L2GatewayInterfaceNotFound", 404, WhenStateChanges;
    /// The switch has no port of the name that an update gives.
    L2GatewayPhysicalPortNotFound => "L2GatewayPhysicalPortNotFound", 404, WhenStateChanges;
    /// The network is not a VXLAN network.
    VxlanSegmentationIdNotFound => "VxlanSegmentationIDNotFound", 404, WhenStateChanges;
    /// No such remote gateway.
    L2RemoteGatewayNotFound => "L2RemoteGatewayNotFound", 404, WhenStateChanges;
    /// No such remote gateway connection.
    L2RemoteGatewayConnectionNotFound => "L2RemoteGatewayConnectionNotFound", 404, WhenStateChanges;
    /// No such remote MAC.
    L2RemoteMacNotFound => "L2RemoteMacNotFound", 404, WhenStateChanges;
    /// The project has no quotas of its own.
    TenantQuotaNotFound => "TenantQuotaNotFound", 404, WhenStateChanges;
    /// The path exists, the method does not.
    MethodNotAllowed => "HTTPMethodNotAllowed", 405, Never;
    /// The switch complains about itself.
    L2GatewayPhysicalSwitchFaultStatus => "L2GatewayPhysicalSwitchFaultStatus", 409, WhenStateChanges;
    /// The switch complains about a port.
    L2GatewayPhysicalPortFaultStatus => "L2GatewayPhysicalPortFaultStatus", 409, WhenStateChanges;
    /// A switch of the gateway cannot do what the connection needs.
    L2RemoteGatewayDeviceUnable => "L2RemoteGatewayDeviceUnable", 409, WhenStateChanges;
    /// The switch is away, so it cannot be compared.
    L2GatewayDeviceAway => "L2GatewayDeviceAway", 409, WhenStateChanges;
    /// The switch is there, or gateways name it.
    L2GatewayDeviceInUse => "L2GatewayDeviceInUse", 409, WhenStateChanges;
    /// Another controller has the switch's lock, so nothing can be agreed to.
    L2GatewayDeviceLocked => "L2GatewayDeviceLocked", 409, WhenStateChanges;
    /// The request took too long to arrive.
    RequestTimeout => "HTTPRequestTimeout", 408, Later;
    /// The network still carries a connection to a remote gateway.
    NetworkInUse => "NetworkInUse", 409, WhenStateChanges;
    /// A network has several VXLAN segments: nobody knows which of them a gateway is to carry.
    MultipleVxlanSegmentsFound => "MultipleVxlanSegmentsFound", 409, WhenStateChanges;
    /// Another network has this VXLAN segmentation id.
    TunnelIdInUse => "TunnelIdInUse", 409, WhenStateChanges;
    /// Every VXLAN segmentation id is taken.
    NoNetworkAvailable => "NoNetworkAvailable", 409, WhenStateChanges;
    /// Another port of the network has this MAC address.
    MacAddressInUse => "MacAddressInUse", 409, WhenStateChanges;
    /// The gateway still has connections.
    L2GatewayInUse => "L2GatewayInUse", 409, WhenStateChanges;
    /// The network is already connected to the gateway.
    L2GatewayConnectionExists => "L2GatewayConnectionExists", 409, WhenStateChanges;
    /// A connection to a remote gateway rides on this connection.
    L2GatewayConnectionInUse => "L2GatewayConnectionInUse", 409, WhenStateChanges;
    /// Some interfaces of a device have segmentation ids and some have not.
    L2GatewaySegmentationRequired => "L2GatewaySegmentationRequired", 409, Never;
    /// The gateway was created with segmentation ids, the update has none.
    L2GatewaySegmentationIdExists => "L2GatewaySegmentationIDExists", 409, Never;
    /// The gateway was created without segmentation ids, the update has some.
    L2GatewaySegmentationIdNotExists => "L2GatewaySegmentationIDNotExists", 409, Never;
    /// The VLAN of the port already carries another network.
    L2GatewayDuplicateSegmentationId => "L2GatewayDuplicateSegmentationID", 409, WhenStateChanges;
    /// The remote gateway still has connections.
    L2RemoteGatewayInUse => "L2RemoteGatewayInUse", 409, WhenStateChanges;
    /// The gateway, network and remote gateway are already connected.
    L2RemoteGatewayConnectionExists => "L2RemoteGatewayConnectionExists", 409, WhenStateChanges;
    /// The network is not attached to the gateway.
    L2RemoteGatewayConnectionNetworkNotAttached => "L2RemoteGatewayConnectionNetworkNotAttached", 409, WhenStateChanges;
    /// The WAN key already carries another network of the gateway.
    L2RemoteGatewaySegmentationIdInUse => "L2RemoteGatewaySegmentationIDInUse", 409, WhenStateChanges;
    /// The MAC address is already declared on that network of that gateway.
    L2RemoteMacExists => "L2RemoteMacExists", 409, WhenStateChanges;
    /// The project may have no more of these.
    OverQuota => "OverQuota", 409, WhenStateChanges;
    /// The resource was changed since the client looked at it.
    RevisionConstraint => "RevisionNumberConstraintFailed", 412, WhenStateChanges;
    /// The body is larger than the server accepts.
    BodyTooLarge => "HTTPRequestEntityTooLarge", 413, Never;
    /// The request line is longer than the server accepts.
    UriTooLong => "HTTPRequestURITooLong", 414, Never;
    /// The request line and the headers are longer than the server accepts.
    HeadTooLarge => "HTTPRequestHeaderFieldsTooLarge", 431, Never;
    /// A defect or a failing machine.
    Internal => "HTTPInternalServerError", 500, Later;
    /// The database or Keystone does not answer.
    Unavailable => "ServiceUnavailable", 503, Later;
}

/// A refusal: what kind, what the client is told, what the log is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The row of the table.
    pub kind: FaultKind,
    /// For the client: what was wrong and what would be right.
    pub message: String,
    /// For the log: the cause in full. Never sent to a client.
    pub detail: Option<String>,
}

impl Fault {
    /// A fault with a message for the client.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            detail: None,
        }
    }

    /// An attribute whose value has the wrong shape; `reason` without a full stop.
    pub fn invalid(attribute: &str, reason: impl fmt::Display) -> Self {
        Self::new(
            FaultKind::InvalidBody,
            format!("Invalid input for {attribute}. Reason: {reason}."),
        )
    }

    /// A value of the right shape that is refused; `reason` without a full stop.
    pub fn refused(reason: impl fmt::Display) -> Self {
        Self::new(
            FaultKind::InvalidInput,
            format!("Invalid input for operation: {reason}."),
        )
    }

    /// A defect or a failing machine: the client learns that it is not its fault, the log learns the cause.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(
            FaultKind::Internal,
            "Request Failed: internal server error while processing your request.",
        )
        .with_detail(cause)
    }

    /// Something the server needs does not answer.
    pub fn unavailable(what: &str, cause: impl fmt::Display) -> Self {
        Self::new(
            FaultKind::Unavailable,
            format!("{what} is not available right now. Please try again later."),
        )
        .with_detail(cause)
    }

    /// The same fault with the cause for the log.
    #[must_use]
    pub fn with_detail(mut self, cause: impl fmt::Display) -> Self {
        self.detail = Some(cause.to_string());
        self
    }

    /// The same fault, saying which item of a bulk request it is about (counted from 0).
    #[must_use]
    pub fn at_index(mut self, index: usize) -> Self {
        self.message = format!("Item {index}: {}", self.message);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.type_name(), self.message)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_are_distinct_and_every_status_is_an_error() {
        let mut names: Vec<_> = FaultKind::ALL.iter().map(|k| k.type_name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FaultKind::ALL.len());
        assert!(
            FaultKind::ALL
                .iter()
                .all(|k| (400..600).contains(&k.status()))
        );
    }

    #[test]
    fn the_detail_is_for_the_log_only() {
        let fault = Fault::internal("disk I/O error");
        assert!(!fault.message.contains("disk"));
        assert!(fault.to_string().contains("disk I/O error"));
    }
}
