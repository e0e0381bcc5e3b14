//! `sluice checkpoints`: what has been delivered, as the replicated log holds it.

use clap::Subcommand;
use serde::Serialize;
use sluice_proto::admin::v1::{self as admin, checkpoint_service_client::CheckpointServiceClient};

use super::{
    Failure, Remote,
    client::{connect, request},
    output::{self, Rows},
    text,
};

/// Shows what has been delivered.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the last checkpoint of every shard, with its ledger
    #[command(after_help = "\
The ledger counts readings over a shard's whole life: \
received = delivered + filtered + dead_lettered + returned + in_flight + unaccounted, and unaccounted must be 0. \
-o json and -o yaml also show the next Kafka offset per topic and partition.

Examples:
  sluice checkpoints list
  sluice checkpoints list --pipeline readings -o yaml")]
    List {
        /// Only the shards of this pipeline
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        pipeline: String,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Serialize)]
struct Checkpoint {
    pipeline: String,
    index: u32,
    epoch: u64,
    taken_at: Option<String>,
    age_ms: u64,
    released: bool,
    oldest_unacked_ms: u64,
    ledger: Ledger,
    next_offsets: Vec<NextOffset>,
}

#[derive(Debug, Serialize)]
struct Ledger {
    received: u64,
    delivered: u64,
    filtered: u64,
    dead_lettered: u64,
    returned: u64,
    in_flight: u64,
    unaccounted: i64,
    acked: u64,
    redelivered: u64,
    sessions_lost: u64,
}

#[derive(Debug, Serialize)]
struct NextOffset {
    topic: String,
    partition: i32,
    next_offset: i64,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Checkpoints(Vec<Checkpoint>);

pub(super) async fn run(Command::List { pipeline, remote }: Command) -> Result<(), Failure> {
    let mut client = CheckpointServiceClient::new(connect(&remote).await?);
    let answer = client
        .list_checkpoints(request(admin::ListCheckpointsRequest { pipeline }))
        .await
        .map_err(|status| Failure::from_status(&status, &remote.admin))?;
    output::print(
        &Checkpoints(answer.into_inner().checkpoints.into_iter().map(Checkpoint::from).collect()),
        remote.output,
    )
}

impl Rows for Checkpoints {
    const HEADER: &'static [&'static str] = &[
        "PIPELINE",
        "SHARD",
        "EPOCH",
        "AGE",
        "RECEIVED",
        "DELIVERED",
        "FILTERED",
        "DEAD-LETTERED",
        "RETURNED",
        "IN-FLIGHT",
        "UNACCOUNTED",
        "OLDEST-UNACKED",
    ];

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |checkpoint: &Checkpoint| {
            let ledger = &checkpoint.ledger;
            vec![
                checkpoint.pipeline.clone(),
                checkpoint.index.to_string(),
                checkpoint.epoch.to_string(),
                text::age(checkpoint.age_ms),
                ledger.received.to_string(),
                ledger.delivered.to_string(),
                ledger.filtered.to_string(),
                ledger.dead_lettered.to_string(),
                ledger.returned.to_string(),
                ledger.in_flight.to_string(),
                ledger.unaccounted.to_string(),
                text::age(checkpoint.oldest_unacked_ms),
            ]
        };
        self.0.iter().map(row).collect()
    }
}

impl From<admin::Checkpoint> for Checkpoint {
    fn from(checkpoint: admin::Checkpoint) -> Self {
        let offset = |offset: admin::NextOffset| NextOffset {
            topic: offset.topic,
            partition: offset.partition,
            next_offset: offset.next_offset,
        };
        Self {
            pipeline: checkpoint.pipeline,
            index: checkpoint.index,
            epoch: checkpoint.epoch,
            taken_at: text::time(checkpoint.taken_at_unix_ms),
            age_ms: checkpoint.age_ms,
            released: checkpoint.released,
            oldest_unacked_ms: checkpoint.oldest_unacked_ms,
            ledger: checkpoint.ledger.unwrap_or_default().into(),
            next_offsets: checkpoint.next_offsets.into_iter().map(offset).collect(),
        }
    }
}

impl From<admin::Ledger> for Ledger {
    fn from(ledger: admin::Ledger) -> Self {
        Self {
            received: ledger.received,
            delivered: ledger.delivered,
            filtered: ledger.filtered,
            dead_lettered: ledger.dead_lettered,
            returned: ledger.returned,
            in_flight: ledger.in_flight,
            unaccounted: ledger.unaccounted,
            acked: ledger.acked,
            redelivered: ledger.redelivered,
            sessions_lost: ledger.sessions_lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_the_stated_ones() -> anyhow::Result<()> {
        let checkpoint = Checkpoint::from(admin::Checkpoint {
            pipeline: "readings".to_owned(),
            ledger: Some(admin::Ledger { received: 3, delivered: 3, acked: 3, ..admin::Ledger::default() }),
            next_offsets: vec![admin::NextOffset { topic: "t".to_owned(), partition: 1, next_offset: 3 }],
            ..admin::Checkpoint::default()
        });
        let expected = r#"[{"pipeline":"readings","index":0,"epoch":0,"taken_at":null,"age_ms":0,"released":false,"oldest_unacked_ms":0,"ledger":{"received":3,"delivered":3,"filtered":0,"dead_lettered":0,"returned":0,"in_flight":0,"unaccounted":0,"acked":3,"redelivered":0,"sessions_lost":0},"next_offsets":[{"topic":"t","partition":1,"next_offset":3}]}]"#;
        assert_eq!(output::json(&Checkpoints(vec![checkpoint]))?, expected);
        Ok(())
    }
}
