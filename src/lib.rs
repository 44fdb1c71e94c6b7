//! TCP, from SYN to FIN, in your process.

pub mod proto;
