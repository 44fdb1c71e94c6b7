//! TCP, from SYN to FIN, in your process.

pub mod device;
pub mod proto;
