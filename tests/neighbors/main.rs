//! Who is on the link: our own addresses and those of our neighbours, between engines on one Ethernet, in virtual time.
//!
//! | module | what it asks |
//! |---|---|
//! | `groups` | are the groups of neighbour discovery reported to those who ask |
//! | `peers` | what of a neighbour that never answers, goes away, moves, or whom somebody pretends to be |
//! | `own` | is an address probed before it is used, announced after that, and named with its other owner if it has one |
//! | `hub` | what all of them stand on |

mod groups;
mod hub;
mod own;
mod peers;
