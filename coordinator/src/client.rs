//! What a node wants of the leader, wherever that is: have a command proposed, read the state, ask who is alive.
//!
//! Follows redirects, waits while nobody leads, and tries again what has certainly changed nothing.

use std::time::Duration;

use prost::Message as _;
use sluice_proto::{
    cluster::v1::{
        ProposeRequest, ReadStateRequest, ReportRequest, node_service_client::NodeServiceClient, propose_response,
        read_state_response::Piece, report_response,
    },
    state::v1 as state_pb,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    ProposeError,
    clock::now,
    core::Core,
    leader::report::Report,
    machine::{Command, Kind, Outcome, RecordCheckpoints},
    model::{ClusterId, State},
    raft::WriteError,
    transport::why,
    wire::node::{MESSAGE_BYTES_MAX, millis},
};

/// First and longest wait between two attempts.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// A leader that says nothing for so long is asked again, or another is: it may have been cut off after the call was made.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(3);
/// How long a node's own copy may be behind the answer to its own proposal.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// A report is for people, who would rather have half of an answer than wait.
const REPORT_WITHIN: Duration = Duration::from_secs(1);
const READ_WITHIN: Duration = Duration::from_secs(10);
/// Checkpoints in one proposal, so that a log entry stays well below 1 MiB: one has some hundred bytes, and some dozen for each
/// partition that it tells of.
const CHECKPOINT_BYTES_MAX: usize = 512 << 10;

/// How one attempt to propose ended without an outcome.
enum Missed {
    /// Nothing was changed; perhaps that one leads.
    NotLeader(Option<String>, String),
    Unknown(String),
    Stopped(String),
}

impl Core {
    /// Proposes a change, stamped with this node's clock.
    pub(crate) async fn propose(&self, kind: Kind) -> Result<Outcome, ProposeError> {
        match kind {
            Kind::RecordCheckpoints(checkpoints) => {
                let mut all = Vec::new();
                for part in split(checkpoints) {
                    match self.propose_one(part.into()).await? {
                        Outcome::Recorded { refused } => all.extend(refused),
                        other => return Ok(other),
                    }
                }
                Ok(Outcome::Recorded { refused: all })
            }
            kind => self.propose_one(kind).await,
        }
    }

    async fn propose_one(&self, kind: Kind) -> Result<Outcome, ProposeError> {
        // Said twice it says the same, and an older epoch is fenced.
        let is_repeatable = matches!(kind, Kind::RecordCheckpoints(_) | Kind::SetMemberState(_));
        let command = Command { proposed_at: now(), kind };
        let deadline = Instant::now() + self.settings.propose_within;
        let (mut wait, mut hint) = (RETRY_AFTER.0, None);
        loop {
            let (next, why) = match self.attempt(&command, hint.take(), deadline).await {
                Ok((outcome, index)) => {
                    self.catch_up(index).await;
                    return Ok(outcome);
                }
                Err(Missed::NotLeader(leader, why)) => (leader, why),
                Err(Missed::Unknown(why)) if is_repeatable && Instant::now() < deadline => (None, why),
                Err(Missed::Unknown(why)) => return Err(ProposeError::Unknown(why)),
                Err(Missed::Stopped(why)) => return Err(ProposeError::Stopped(why)),
            };
            if *self.stop.borrow() {
                return Err(ProposeError::Stopped("the node is stopping".to_owned()));
            }
            if Instant::now() + wait >= deadline {
                return Err(ProposeError::Unavailable(format!("{why}, for {:?}", self.settings.propose_within)));
            }
            hint = next;
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_AFTER.1);
        }
    }

    /// Here if this node leads, else where the hint or what is known points to.
    async fn attempt(
        &self,
        command: &Command,
        hint: Option<String>,
        deadline: Instant,
    ) -> Result<(Outcome, u64), Missed> {
        let is_here = self.group.roles().leader == Some(self.group.identity().raft_id);
        if is_here {
            return self.group.write(command.clone()).await.map_err(|error| match error {
                WriteError::NotLeader { leader } => {
                    let why = error_text(&leader);
                    Missed::NotLeader(leader.map(|(_, address)| address), why)
                }
                WriteError::Refused(why) => Missed::NotLeader(None, why),
                WriteError::Unknown(why) => Missed::Unknown(why),
                WriteError::Stopped(why) => Missed::Stopped(why),
            });
        }
        let nobody = || Missed::NotLeader(None, self.why_nobody());
        let address =
            hint.or_else(|| self.leader_address()).filter(|at| !at.is_empty() && *at != self.settings.address);
        let (Some(address), Some(cluster)) = (address, self.group.identity().cluster_id) else { return Err(nobody()) };
        self.attempt_at(&address, cluster, command, deadline).await
    }

    fn why_nobody(&self) -> String {
        if self.group.identity().cluster_id.is_some() {
            return "nobody is known to lead".to_owned();
        }
        let joining = self.joining.borrow();
        let waits = if joining.is_empty() { "it has just started" } else { &joining };
        format!("this node is in no cluster yet: {waits}")
    }

    async fn attempt_at(
        &self,
        address: &str,
        cluster: ClusterId,
        command: &Command,
        deadline: Instant,
    ) -> Result<(Outcome, u64), Missed> {
        let mut client = self.client(address).map_err(|why| Missed::NotLeader(None, why))?;
        let deadline = deadline.min(Instant::now() + ATTEMPT_WITHIN);
        let within_ms = millis(deadline.saturating_duration_since(Instant::now()));
        let request = ProposeRequest { cluster_id: cluster.to_string(), command: Some(command.into()), within_ms };
        // Some more than the leader itself takes: its answer is worth more than a silence.
        let answered = timeout_at(deadline + RETRY_AFTER.1, client.propose(Request::new(request))).await;
        let response = match answered {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) if is_unsent(&status) => return Err(Missed::NotLeader(None, why(&status))),
            Ok(Err(status)) => return Err(Missed::Unknown(why(&status))),
            Err(_) => return Err(Missed::Unknown(format!("no answer from the leader at {address}"))),
        };
        match response.result {
            Some(propose_response::Result::Outcome(outcome)) => match Outcome::try_from(outcome) {
                Ok(outcome) => Ok((outcome, response.index)),
                Err(error) => Err(Missed::Unknown(format!("the leader's answer is not understood: {error}"))),
            },
            Some(propose_response::Result::NotLeader(leader)) => {
                let leader = Some(leader.leader_address).filter(|address| !address.is_empty());
                Err(Missed::NotLeader(leader, format!("the node at {address} does not lead")))
            }
            Some(propose_response::Result::Unavailable(why)) => Err(Missed::NotLeader(None, why)),
            Some(propose_response::Result::Unknown(why)) => Err(Missed::Unknown(why)),
            None => Err(Missed::Unknown("the leader's answer is empty".to_owned())),
        }
    }

    /// Until this node's own copy, if it has one, has what was proposed.
    async fn catch_up(&self, index: u64) {
        if self.is_in_group() {
            let mut applied = self.group.applied();
            // Late, it is no more than late.
            let _ = timeout(BEHIND_MAX, applied.wait_for(|applied| *applied >= index)).await;
        }
    }

    /// The leader's state, with the Raft log index that it stands for.
    pub(crate) async fn fetch_state(&self) -> Result<(State, u64), ProposeError> {
        let deadline = Instant::now() + self.settings.propose_within.min(READ_WITHIN);
        let mut wait = RETRY_AFTER.0;
        loop {
            let why = match timeout_at(deadline, self.try_fetch_state()).await {
                Ok(Ok(read)) => return Ok(read),
                Ok(Err(why)) => why,
                Err(_) => "the leader does not answer".to_owned(),
            };
            let is_outside = self.group.identity().cluster_id.is_none();
            if is_outside || Instant::now() + wait >= deadline || *self.stop.borrow() {
                return Err(ProposeError::Unavailable(why));
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_AFTER.1);
        }
    }

    async fn try_fetch_state(&self) -> Result<(State, u64), String> {
        let (mut client, cluster_id) = self.leaders_client()?;
        let request = Request::new(ReadStateRequest { cluster_id });
        let mut pieces = client.read_state(request).await.map_err(|status| why(&status))?.into_inner();
        let (mut bytes, mut index) = (Vec::new(), 0);
        while let Some(response) = pieces.message().await.map_err(|status| why(&status))? {
            index = response.applied_index;
            match response.piece {
                Some(Piece::State(piece)) => bytes.extend(piece),
                Some(Piece::NotLeader(_)) | None => return Err("the leader has changed".to_owned()),
            }
        }
        let state = state_pb::State::decode(&bytes[..]).map_err(|error| error.to_string())?;
        Ok((State::try_from(state).map_err(|error| error.to_string())?, index))
    }

    /// What only the leader knows; None: nobody leads, or does not answer.
    pub(crate) async fn report(&self) -> Option<Report> {
        if let Some(report) = self.own_report() {
            return Some(report);
        }
        let (mut client, cluster_id) = self.leaders_client().ok()?;
        let answered = timeout(REPORT_WITHIN, client.report(Request::new(ReportRequest { cluster_id }))).await;
        match answered.ok()?.ok()?.into_inner().result? {
            report_response::Result::Report(report) => Some(report.into()),
            report_response::Result::NotLeader(_) => None,
        }
    }

    fn leaders_client(&self) -> Result<(NodeServiceClient<Channel>, String), String> {
        let address = self.leader_address().ok_or_else(|| self.why_nobody())?;
        let cluster = self.group.identity().cluster_id.ok_or_else(|| self.why_nobody())?;
        Ok((self.client(&address)?, cluster.to_string()))
    }

    fn client(&self, address: &str) -> Result<NodeServiceClient<Channel>, String> {
        let channel = self.transport.channel(address).map_err(|error| error.to_string())?;
        Ok(NodeServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }
}

fn error_text(leader: &Option<(crate::model::RaftId, String)>) -> String {
    match leader {
        Some((_, address)) => format!("the node at {address} leads"),
        None => "this node has lost its quorum".to_owned(),
    }
}

/// Whether the call was certainly not taken by anybody: no connection was made, or it was refused before it was looked at.
fn is_unsent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    matches!(
        status.code(),
        Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented | Code::Unauthenticated
    )
}

/// Into proposals of bounded size.
fn split(RecordCheckpoints { node, checkpoints }: RecordCheckpoints) -> Vec<RecordCheckpoints> {
    let mut parts = vec![RecordCheckpoints { node: node.clone(), checkpoints: Vec::new() }];
    let mut bytes = 0;
    for (shard, checkpoint) in checkpoints {
        let topics: usize = checkpoint.next_offsets.keys().map(|at| at.topic.len() + 24).sum();
        let filters: usize = checkpoint.session.iter().flat_map(|session| &session.filters).map(|f| f.len() + 4).sum();
        let size = 160 + shard.pipeline.as_str().len() + topics + filters + checkpoint.status.message.len();
        if bytes > 0 && bytes + size > CHECKPOINT_BYTES_MAX {
            parts.push(RecordCheckpoints { node: node.clone(), checkpoints: Vec::new() });
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = parts.last_mut() {
            last.checkpoints.push((shard, checkpoint));
        }
    }
    parts
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::model::{
        Checkpoint, Epoch, Generation, Ledger, Offset, Owner, ShardId, TaskState, TaskStatus, TopicPartition, UnixMs,
    };

    #[tokio::test]
    async fn a_call_that_found_nobody_may_be_made_again() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let channel = crate::Transport::plain().channel(&free.to_string()).unwrap();
        let status = NodeServiceClient::new(channel).propose(ProposeRequest::default()).await.unwrap_err();
        assert!(is_unsent(&status), "{status:?}");
        assert!(!is_unsent(&Status::unavailable("the connection broke")));
    }

    #[test]
    fn many_checkpoints_become_proposals_that_stay_small() {
        let max = u64::MAX;
        let ledger = Ledger {
            received: max,
            delivered: max,
            filtered: max,
            dead_lettered: max,
            returned: max,
            in_flight: max,
            acked: max,
            redelivered: max,
            sessions_lost: max,
        };
        let checkpoint = Checkpoint {
            epoch: Epoch(max),
            taken_at: UnixMs(max),
            ledger,
            next_offsets: (0..20)
                .map(|partition| (TopicPartition { topic: "t".repeat(50), partition }, Offset(i64::MAX)))
                .collect(),
            session: None,
            status: TaskStatus { state: TaskState::Running, message: "m".repeat(200) },
            released: true,
            oldest_unacked_ms: max,
        };
        let shard = |index| ShardId { pipeline: "p".repeat(63).parse().unwrap(), index };
        let checkpoints: Vec<_> = (0..5_000).map(|index| (shard(index), checkpoint.clone())).collect();
        let node = Owner { node: "n".parse().unwrap(), generation: Generation(1) };
        let parts = split(RecordCheckpoints { node: node.clone(), checkpoints: checkpoints.clone() });
        for part in &parts {
            let command = Command { proposed_at: UnixMs(1), kind: part.clone().into() };
            let bytes = state_pb::Command::from(&command).encoded_len();
            assert!(bytes < 1 << 20, "{bytes}");
        }
        assert!(parts.len() < 50);
        assert_eq!(parts.into_iter().flat_map(|part| part.checkpoints).collect::<Vec<_>>(), checkpoints);
        assert_eq!(split(RecordCheckpoints { node, checkpoints: vec![] }).len(), 1);
    }
}
