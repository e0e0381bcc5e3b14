//! At rest every shard has an owner that is up, in the generation that it now has, and exactly one task in the cluster, under its epoch. And
//! one session at the broker, which has no others of any use: an empty one stays behind when the goodbye that ends it is lost, since MQTT
//! has no answer to that.

use super::{Invariant, ensure};
use crate::{
    node::{Node, name},
    world::World,
};

#[derive(Debug, Default)]
pub(crate) struct Check;

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "every_shard_has_one_owner"
    }

    fn end(&self, world: &World) -> Result<(), String> {
        let state = &world.around.raft.state;
        for (id, shard) in &state.shards {
            let owner = shard.owner.as_ref().ok_or_else(|| format!("shard {id} has no owner"))?;
            let is_present = state.members.get(&owner.node).is_some_and(|now| now.generation == owner.generation);
            ensure(is_present, || format!("shard {id} is owned by {owner:?}, who is there no more"))?;
            let tasks: Vec<_> =
                world.nodes.iter().flat_map(Node::tasks).filter(|task| task.peer.shard == *id).collect();
            let is_the_owners = tasks.iter().all(|task| {
                name(task.peer.node) == owner.node
                    && task.peer.generation == owner.generation
                    && task.peer.epoch == shard.epoch
            });
            ensure(tasks.len() == 1 && is_the_owners, || {
                let peers: Vec<_> = tasks.iter().map(|task| &task.peer).collect();
                format!("shard {id}, {shard:?}, is run by {peers:?}")
            })?;
        }
        let (sessions, shards) = (world.around.mqtt.sessions_in_use(), state.shards.len());
        ensure(sessions == shards, || format!("{shards} shards have {sessions} sessions in use at the broker"))
    }
}
