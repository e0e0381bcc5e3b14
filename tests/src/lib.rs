//! What the behaviour tests have besides the servers and faults of [`sluice_loadtest::lab`], which they share with `loadtest chaos`: a
//! scene set with one node, a device, a member of a share group, a broker that follows a script, and the verdict of a `loadtest`.

pub mod chaos;
pub mod device;
pub mod loadtest;
pub mod scene;
pub mod scripted;
pub mod subscriber;

pub use sluice_loadtest::lab::{
    admin, certificates, cluster, disk, environment, eventually, firehose, hivemq, kafka, mosquitto, network, node,
    pipeline, ports, process, quota, rounds, topic,
};
