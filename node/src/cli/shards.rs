//! `sluice shards`: which node runs which shard, once or as it changes; moves one.

use std::str::FromStr;

use clap::Subcommand;
use serde::Serialize;
use sluice_proto::admin::v1::{self as admin, assignment_service_client::AssignmentServiceClient};

use super::{
    Failure, Remote,
    client::{connect, request},
    output::{self, Output, Rows, write_line},
    status, text,
};

/// Shows which node runs which shard, and moves them.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the shards with their owner, epoch and state
    #[command(after_help = "\
States: connecting (to the MQTT broker), running, back-pressure (Kafka is slow or away), draining, stopped (on purpose), \
failed (the message says what to mend), retired (its session is ended), unknown (its node has not told yet).

Examples:
  sluice shards list
  sluice shards list --pipeline readings -o json
  sluice shards list --watch            a line for every change, until Ctrl-C
  sluice shards list --watch -o json    one JSON object a line")]
    List {
        /// Only the shards of this pipeline
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        pipeline: String,
        /// Go on and print every change
        #[arg(long, short)]
        watch: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Have another node run a shard
    #[command(after_help = "\
The present owner stops reading, delivers what is in flight and gives the shard over; readings wait in the MQTT broker meanwhile, \
a fraction of a second as a rule. The command does not wait for that: `sluice shards list` shows where the shard goes until it is \
there. The cluster keeps the load even, so it may move the shard, or another one, again.

Examples:
  sluice shards move readings/3 --to sluice-1")]
    Move {
        /// The shard: PIPELINE/INDEX
        shard: Name,
        /// The node that is to run it
        #[arg(long, value_name = "NODE")]
        to: String,
        #[command(flatten)]
        remote: Remote,
    },
}

/// A shard as the lists name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pipeline: String,
    index: u32,
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once('/').and_then(|(pipeline, index)| Some((pipeline, index.parse().ok()?)));
        match parts {
            Some((pipeline, index)) if !pipeline.is_empty() => Ok(Self { pipeline: pipeline.to_owned(), index }),
            _ => Err("a shard is PIPELINE/INDEX, as in readings/3".to_owned()),
        }
    }
}

#[derive(Debug, Serialize)]
struct Shard {
    pipeline: String,
    index: u32,
    /// None: nobody owns it.
    node: Option<String>,
    generation: u64,
    epoch: u64,
    since: Option<String>,
    state: String,
    message: String,
    /// None: no move is under way.
    handover_to: Option<String>,
    /// The pipeline has fewer shards now; this one ends its session and goes.
    is_retiring: bool,
    #[serde(skip)]
    since_unix_ms: u64,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Shards(Vec<Shard>);

/// One change of a watched list.
#[derive(Debug, Serialize)]
struct Change {
    /// `changed` (new or different) or `removed`.
    event: &'static str,
    applied_index: u64,
    #[serde(flatten)]
    shard: Shard,
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { pipeline, watch: true, remote } => watch(pipeline, &remote).await,
        Command::List { pipeline, remote, .. } => list(pipeline, &remote).await,
        Command::Move { shard, to, remote } => move_shard(shard, to, &remote).await,
    }
}

async fn move_shard(shard: Name, to: String, remote: &Remote) -> Result<(), Failure> {
    let mut client = AssignmentServiceClient::new(connect(remote).await?);
    let asked = admin::MoveShardRequest { pipeline: shard.pipeline, index: shard.index, node: to };
    let answer = client.move_shard(request(asked)).await;
    let answer = answer.map_err(|status| Failure::from_status(&status, &remote.admin))?.into_inner();
    let shard = Shard::from(answer.assignment.unwrap_or_default());
    output::print(&Shards(vec![shard]), remote.output)
}

async fn list(pipeline: String, remote: &Remote) -> Result<(), Failure> {
    let mut client = AssignmentServiceClient::new(connect(remote).await?);
    let answer = client
        .list_assignments(request(admin::ListAssignmentsRequest { pipeline }))
        .await
        .map_err(|status| Failure::from_status(&status, &remote.admin))?;
    output::print(&Shards(answer.into_inner().assignments.into_iter().map(Shard::from).collect()), remote.output)?;
    // Nobody hears what the nodes say of their shards then.
    if status::ask(remote).await.is_ok_and(|status| !status.has_quorum) {
        eprintln!("warning: no quorum: nodes, states and messages are those of the last time that there was one");
    }
    Ok(())
}

/// Prints changes until the operator or the node ends it.
async fn watch(pipeline: String, remote: &Remote) -> Result<(), Failure> {
    let mut client = AssignmentServiceClient::new(connect(remote).await?);
    // No deadline: a watch lasts as long as the operator wants.
    let failure = |status: tonic::Status| Failure::from_status(&status, &remote.admin);
    let request = admin::WatchAssignmentsRequest { pipeline };
    let mut stream = client.watch_assignments(request).await.map_err(failure)?.into_inner();
    if remote.output == Output::Table {
        write_line(&line(&["EVENT", "SHARD", "NODE", "EPOCH", "STATE", "MESSAGE"].map(str::to_owned)))?;
    }
    loop {
        let change = tokio::select! {
            change = stream.message() => change.map_err(failure)?,
            // The operator has seen enough.
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(change) = change else {
            return Err(Failure::failed(format!(
                "the node at {} ended the watch; it is probably stopping",
                remote.admin
            )));
        };
        for (event, shards) in [("changed", change.changed), ("removed", change.removed)] {
            for shard in shards {
                print_change(
                    Change { event, applied_index: change.applied_index, shard: shard.into() },
                    remote.output,
                )?;
            }
        }
    }
}

fn print_change(change: Change, output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => write_line(&output::json(&change)?),
        Output::Yaml => write_line(&format!("---\n{}", output::yaml(&change)?)),
        Output::Table => {
            let Change { event, shard, .. } = change;
            let name = format!("{}/{}", shard.pipeline, shard.index);
            let (words, node) = (shard.words(), shard.node.unwrap_or_default());
            let node = shard.handover_to.map_or(node.clone(), |to| format!("{node} → {to}"));
            write_line(&line(&[event.to_owned(), name, node, shard.epoch.to_string(), shard.state, words]))
        }
    }
}

/// A line of a table whose later lines are not known yet, so its widths are fixed.
fn line([event, shard, node, epoch, state, message]: &[String; 6]) -> String {
    format!("{event:<8}  {shard:<24}  {node:<16}  {epoch:>5}  {state:<13}  {message}").trim_end().to_owned()
}

impl Rows for Shards {
    const HEADER: &'static [&'static str] = &["PIPELINE", "SHARD", "NODE", "TO", "EPOCH", "SINCE", "STATE", "MESSAGE"];

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |shard: &Shard| {
            vec![
                shard.pipeline.clone(),
                shard.index.to_string(),
                shard.node.clone().unwrap_or_default(),
                shard.handover_to.clone().unwrap_or_default(),
                shard.epoch.to_string(),
                text::since(shard.since_unix_ms),
                shard.state.clone(),
                shard.words(),
            ]
        };
        self.0.iter().map(row).collect()
    }
}

impl Shard {
    /// The message, after what the state does not say.
    fn words(&self) -> String {
        match (self.is_retiring, self.message.as_str()) {
            (false, message) => message.to_owned(),
            (true, "") => "is retiring".to_owned(),
            (true, message) => format!("is retiring; {message}"),
        }
    }
}

impl From<admin::Assignment> for Shard {
    fn from(assignment: admin::Assignment) -> Self {
        Self {
            state: text::word(assignment.state().as_str_name(), "TASK_STATE_"),
            pipeline: assignment.pipeline,
            index: assignment.index,
            node: Some(assignment.node).filter(|node| !node.is_empty()),
            generation: assignment.generation,
            epoch: assignment.epoch,
            since: text::time(assignment.since_unix_ms),
            message: assignment.message,
            handover_to: Some(assignment.handover_to).filter(|node| !node.is_empty()),
            is_retiring: assignment.is_retiring,
            since_unix_ms: assignment.since_unix_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_flat_object() -> anyhow::Result<()> {
        let assignment = admin::Assignment {
            pipeline: "readings".to_owned(),
            index: 1,
            epoch: 2,
            state: admin::TaskState::BackPressure.into(),
            ..admin::Assignment::default()
        };
        let change = Change { event: "changed", applied_index: 9, shard: assignment.into() };
        let expected = r#"{"event":"changed","applied_index":9,"pipeline":"readings","index":1,"node":null,"generation":0,"epoch":2,"since":null,"state":"back-pressure","message":"","handover_to":null,"is_retiring":false}"#;
        assert_eq!(output::json(&change)?, expected);
        Ok(())
    }
}
