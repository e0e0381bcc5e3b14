//! What the tests share.

pub(crate) mod cluster;
pub(crate) mod served;
