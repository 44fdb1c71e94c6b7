//! The fuzz targets' bodies, shared with `tests/fuzz_smoke.rs`: `cargo fuzz run conversation`.

#[path = "../../tests/support/bodies.rs"]
mod bodies;
#[path = "../../tests/support/packet.rs"]
mod packet;
#[path = "../../tests/support/peer.rs"]
mod peer;

/// Connections in every state, and segments, calls and time in any order.
pub fn conversation(data: &[u8]) {
    bodies::conversation(data);
}

/// Bytes as one frame.
pub fn frame(data: &[u8]) {
    bodies::frame(data);
}

/// Bytes before every parser.
pub fn parsers(data: &[u8]) {
    bodies::parsers(data);
}
