//! What nodes say to each other while one is attached to the other. A node's part of the state comes in pieces that fit a message.

use std::time::Duration;

use prost::Message as _;
use sluice_proto::{cluster::v1 as pb, state::v1 as state_pb};

use super::{
    DecodeError, node_name,
    outcome::{shard_from_pb, shard_to_pb},
    required,
};
use crate::{
    attach::{Answer, Change, Down, Hello, Rejection},
    model::{ClusterId, Generation, RaftId, State},
};

/// Most bytes of a piece, but for one entry that has more: a quarter of what gRPC takes by default.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// Most bytes of one message that is taken in: a pipeline with all its earlier specs, each with the longest manifest, and that once more
/// in what is read from it, are 33 MiB; the rest is for what is told to be removed with it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

pub(crate) fn hello_to_pb(hello: &Hello, cluster: &ClusterId) -> pb::AttachRequest {
    let hello = pb::Hello {
        cluster_id: cluster.to_string(),
        name: hello.name.to_string(),
        raft_id: hello.raft_id.0,
        address: hello.address.clone(),
        admin_address: hello.admin_address.clone(),
        generation: hello.generation.map_or(0, |generation| generation.0),
        life: hello.life,
    };
    pb::AttachRequest { message: Some(pb::attach_request::Message::Hello(hello)) }
}

pub(crate) fn hello_from_pb(hello: pb::Hello) -> Result<Hello, DecodeError> {
    Ok(Hello {
        name: node_name(&hello.name)?,
        raft_id: RaftId(hello.raft_id),
        address: hello.address,
        admin_address: hello.admin_address,
        generation: Some(Generation(hello.generation)).filter(|generation| generation.0 > 0),
        life: hello.life,
    })
}

pub(crate) fn keep_alive_to_pb(number: u64) -> pb::AttachRequest {
    pb::AttachRequest { message: Some(pb::attach_request::Message::KeepAlive(pb::KeepAlive { number })) }
}

/// What the leader tells, in as many messages as it takes.
pub(crate) fn down_to_pb(down: &Down) -> Vec<pb::AttachResponse> {
    use pb::attach_response::Message;
    let message = match down {
        Down::Part(change, _) => {
            let response = |part| pb::AttachResponse { message: Some(Message::Part(part)) };
            return part_to_pb(change).into_iter().map(response).collect();
        }
        Down::Welcome { generation, leader, is_in_group } => Message::Welcome(pb::Welcome {
            generation: generation.0,
            leader: leader.to_string(),
            is_in_group: *is_in_group,
        }),
        Down::Answer(answer) => Message::Answer(pb::Answer {
            number: answer.number,
            lease_ms: millis(answer.lease),
            checkpoint_interval_ms: millis(answer.checkpoint_interval),
            is_in_group: answer.is_in_group,
            voters: answer.voters.clone(),
        }),
        Down::Refused(why) => Message::Refusal(refusal_to_pb(why)),
        Down::NotLeader(leader) => {
            Message::NotLeader(pb::NotLeader { leader_address: leader.clone().unwrap_or_default() })
        }
    };
    vec![pb::AttachResponse { message: Some(message) }]
}

/// `disk` is the cluster on this node's own disk.
pub(crate) fn down_from_pb(response: pb::AttachResponse, disk: &ClusterId) -> Result<Down, DecodeError> {
    use pb::attach_response::Message;
    Ok(match required(response.message, "what the leader tells")? {
        Message::Welcome(w) => Down::Welcome {
            generation: Generation(w.generation),
            leader: node_name(&w.leader)?,
            is_in_group: w.is_in_group,
        },
        Message::Part(part) => {
            let (change, is_last) = part_from_pb(part)?;
            Down::Part(Box::new(change), is_last)
        }
        Message::Answer(a) => Down::Answer(Answer {
            number: a.number,
            lease: Duration::from_millis(a.lease_ms),
            checkpoint_interval: Duration::from_millis(a.checkpoint_interval_ms),
            is_in_group: a.is_in_group,
            voters: a.voters,
        }),
        Message::Refusal(refusal) => Down::Refused(refusal_from_pb(refusal, disk)?),
        Message::NotLeader(n) => Down::NotLeader(Some(n.leader_address).filter(|address| !address.is_empty())),
    })
}

fn refusal_to_pb(why: &Rejection) -> pb::AttachRefusal {
    let (reason, cluster_id) = match why {
        Rejection::WrongCluster { theirs, .. } => (pb::AttachRefusalReason::WrongCluster, theirs.to_string()),
        Rejection::Removed { .. } => (pb::AttachRefusalReason::Removed, String::new()),
        Rejection::NameTaken(_) => (pb::AttachRefusalReason::NameTaken, String::new()),
        Rejection::WrongDisk(_) | Rejection::TwoClusters { .. } => (pb::AttachRefusalReason::WrongDisk, String::new()),
    };
    let still_votes = matches!(why, Rejection::Removed { still_votes: true, .. });
    pb::AttachRefusal { reason: reason.into(), message: why.to_string(), cluster_id, still_votes }
}

fn refusal_from_pb(refusal: pb::AttachRefusal, disk: &ClusterId) -> Result<Rejection, DecodeError> {
    Ok(match refusal.reason() {
        pb::AttachRefusalReason::WrongCluster => {
            Rejection::WrongCluster { disk: disk.clone(), theirs: refusal.cluster_id.parse()? }
        }
        pb::AttachRefusalReason::Removed => {
            Rejection::Removed { why: refusal.message, still_votes: refusal.still_votes }
        }
        pb::AttachRefusalReason::NameTaken => Rejection::NameTaken(refusal.message),
        // A reason that a newer version knows is no reason to try again for ever.
        pb::AttachRefusalReason::WrongDisk | pb::AttachRefusalReason::Unspecified => {
            Rejection::WrongDisk(refusal.message)
        }
    })
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The change in pieces, of which the last says so.
pub(crate) fn part_to_pb(change: &Change) -> Vec<pb::Part> {
    let changed = state_pb::State::from(&change.changed);
    let empty = || state_pb::State { cluster_id: changed.cluster_id.clone(), ..state_pb::State::default() };
    let mut pieces = Pieces { done: Vec::new(), now: empty(), bytes: 0 };
    pieces.now.members = changed.members.clone();
    for pipeline in &changed.pipelines {
        pieces.room_for(pipeline.encoded_len(), empty);
        pieces.now.pipelines.push(pipeline.clone());
    }
    for shard in &changed.shards {
        pieces.room_for(shard.encoded_len(), empty);
        pieces.now.shards.push(shard.clone());
    }
    for checkpoint in &changed.checkpoints {
        pieces.room_for(checkpoint.encoded_len(), empty);
        pieces.now.checkpoints.push(checkpoint.clone());
    }
    let Pieces { mut done, now, .. } = pieces;
    done.push(now);
    let last = done.len() - 1;
    let piece = |(number, changed)| pb::Part {
        is_whole: change.is_whole && number == 0,
        is_last: number == last,
        changed: Some(changed),
        ..pb::Part::default()
    };
    let mut parts: Vec<_> = done.into_iter().enumerate().map(piece).collect();
    if let Some(last) = parts.last_mut() {
        last.pipelines_removed = change.pipelines_removed.iter().map(ToString::to_string).collect();
        last.shards_removed = change.shards_removed.iter().map(shard_to_pb).collect();
        last.checkpoints_removed = change.checkpoints_removed.iter().map(shard_to_pb).collect();
    }
    parts
}

/// One piece, as a change of its own: pieces are taken in one after the other, and shown after the last.
pub(crate) fn part_from_pb(part: pb::Part) -> Result<(Change, bool), DecodeError> {
    let shards = |ids: &[pb::ShardId]| ids.iter().map(shard_from_pb).collect::<Result<_, _>>();
    let change = Change {
        is_whole: part.is_whole,
        changed: State::try_from(required(part.changed, "part of the state")?)?,
        pipelines_removed: part.pipelines_removed.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
        shards_removed: shards(&part.shards_removed)?,
        checkpoints_removed: shards(&part.checkpoints_removed)?,
    };
    Ok((change, part.is_last))
}

struct Pieces {
    done: Vec<state_pb::State>,
    now: state_pb::State,
    bytes: usize,
}

impl Pieces {
    fn room_for(&mut self, bytes: usize, empty: impl FnOnce() -> state_pb::State) {
        if self.bytes > 0 && self.bytes + bytes > PIECE_BYTES_MAX {
            self.done.push(std::mem::replace(&mut self.now, empty()));
            self.bytes = 0;
        }
        self.bytes += bytes;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        machine::{self, ApplyPipeline, Command, EARLIER_SPECS_MAX},
        model::{Owner, PipelineSpec, SourceIdentity, UnixMs},
    };

    #[test]
    fn the_largest_pipeline_fits_a_message() {
        let mut state = State::default();
        // The owner has not told yet which of them its session belongs to, so all are kept.
        for revision in 0..=EARLIER_SPECS_MAX {
            let source = SourceIdentity { servers: vec![], share_group: None, client_id_prefix: String::new() };
            let (name, filter) = ("a".parse().unwrap(), "x".repeat(256 << 10));
            let manifest = format!("{revision:02}{}", "x".repeat((256 << 10) - 2));
            let (shards, filters) = (1.try_into().unwrap(), vec![filter]);
            let spec = PipelineSpec { name, shards, source, filters, manifest, must_keep_shards: false };
            machine::apply(&mut state, Command { proposed_at: UnixMs(1), kind: ApplyPipeline { spec }.into() });
            let owner = Owner { node: "n".parse().unwrap(), generation: Generation(1) };
            state.shards.values_mut().for_each(|shard| shard.owner = Some(owner.clone()));
        }
        assert_eq!(state.pipelines.values().next().unwrap().earlier.len(), EARLIER_SPECS_MAX);
        let pieces = part_to_pb(&Change { is_whole: true, changed: state, ..Change::default() });
        let longest = pieces.iter().map(prost::Message::encoded_len).max().unwrap();
        assert!((32 << 20..MESSAGE_BYTES_MAX).contains(&longest), "{longest}");
    }

    #[test]
    fn a_large_part_comes_in_pieces_and_is_the_same_again() {
        let mut state = State::default();
        for name in ["a", "b", "c", "d", "e", "f"] {
            let source = SourceIdentity { servers: vec![], share_group: None, client_id_prefix: name.to_owned() };
            let (name, shards, manifest) = (name.parse().unwrap(), 3.try_into().unwrap(), "x".repeat(300 << 10));
            let spec =
                PipelineSpec { name, shards, source, filters: vec!["#".to_owned()], manifest, must_keep_shards: false };
            machine::apply(&mut state, Command { proposed_at: UnixMs(1), kind: ApplyPipeline { spec }.into() });
        }
        let change = Change { is_whole: true, changed: state.clone(), ..Change::default() };
        let pieces = part_to_pb(&change);
        assert_eq!(pieces.len(), 2);
        let mut part = State::default();
        for (number, piece) in pieces.into_iter().enumerate() {
            assert!(piece.encoded_len() <= PIECE_BYTES_MAX + 1_000);
            let (change, is_last) = part_from_pb(piece).unwrap();
            change.apply(&mut part);
            assert_eq!(is_last, number == 1);
        }
        assert_eq!(part, state);

        let shard = state.shards.keys().next().unwrap().clone();
        let pipelines_removed = vec![shard.pipeline.clone()];
        let removed = Change { pipelines_removed, shards_removed: vec![shard], ..Change::default() };
        let [piece] = &part_to_pb(&removed)[..] else { panic!() };
        assert_eq!(part_from_pb(piece.clone()).unwrap(), (removed, true));
    }
}
