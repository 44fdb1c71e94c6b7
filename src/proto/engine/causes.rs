//! From what a lower layer found wrong to the reason that is counted.

use super::stats::DropReason;
use crate::proto::tcp::input::Cause;
use crate::proto::wire::HeaderError;
use crate::proto::wire::arp::ArpError;
use crate::proto::wire::ethernet::EthernetError;
use crate::proto::wire::icmp::IcmpError;
use crate::proto::wire::ip::IpError;

impl From<ArpError> for DropReason {
    fn from(_: ArpError) -> Self {
        Self::BadArp
    }
}

impl From<EthernetError> for DropReason {
    fn from(error: EthernetError) -> Self {
        match error {
            EthernetError::Truncated => Self::BadEthernet,
            EthernetError::UnknownType => Self::UnknownEtherType,
            EthernetError::Vlan => Self::VlanTag,
        }
    }
}

impl From<IpError> for DropReason {
    fn from(error: IpError) -> Self {
        match error {
            IpError::BadHeaderChecksum => Self::BadIpChecksum,
            IpError::BadTotalLength => Self::IpLength,
            IpError::ExtensionChain => Self::ExtensionChain,
            IpError::Fragment => Self::Fragment,
            IpError::MappedAddress => Self::MappedAddress,
            IpError::SourceRoute => Self::SourceRoute,
            IpError::BadHeaderLength | IpError::BadVersion | IpError::Jumbo | IpError::Truncated | IpError::UnknownOption => {
                Self::BadIpHeader
            }
        }
    }
}

impl From<IcmpError> for DropReason {
    fn from(error: IcmpError) -> Self {
        match error {
            IcmpError::Listener(_) | IcmpError::Neighbor(_) => Self::BadNdp,
            IcmpError::BadChecksum | IcmpError::BadQuotation | IcmpError::Truncated => Self::BadIcmp,
        }
    }
}

impl From<HeaderError> for DropReason {
    fn from(_: HeaderError) -> Self {
        Self::BadTcpHeader
    }
}

impl From<Cause> for DropReason {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::AckMissing => Self::NoAck,
            Cause::AckTooOld | Cause::AckUnsent => Self::OutsideAck,
            Cause::NobodyReads => Self::Unread,
            Cause::OutOfWindow => Self::OutsideWindow,
            Cause::Paws => Self::Paws,
            Cause::ResetInWindow | Cause::ResetOutOfWindow => Self::Reset,
            Cause::SynInWindow => Self::SynInConnection,
            Cause::TimestampMissing => Self::TimestampMissing,
        }
    }
}
