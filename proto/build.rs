//! Compiles the `.proto` files with protox, so that a build needs no `protoc`.

use std::{env, fs, path::PathBuf};

use protox::prost::Message as _;

const FILES: [&str; 9] = [
    "sluice/admin/v1/assignments.proto",
    "sluice/admin/v1/checkpoints.proto",
    "sluice/admin/v1/cluster.proto",
    "sluice/admin/v1/nodes.proto",
    "sluice/admin/v1/pipelines.proto",
    "sluice/cluster/v1/node.proto",
    "sluice/state/v1/command.proto",
    "sluice/state/v1/log.proto",
    "sluice/state/v1/state.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=sluice");
    let descriptors = protox::compile(FILES, ["."])?;
    // Reflection answers from this set; comments stay in, so that a client sees the same words as a reader of the files.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Ordered maps only: what is encoded from the state must be the same bytes on every replica.
    tonic_prost_build::configure().btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
