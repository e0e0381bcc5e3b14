//! `sluice pipelines`: apply, get, list, pause, resume, delete.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::{ArgAction, Subcommand};
use serde::Serialize;
use sluice_proto::admin::v1::{self as admin, pipeline_service_client::PipelineServiceClient};

use super::{
    Failure, Remote,
    client::{Connection, connect, request},
    output::{self, Output, Rows, write_line},
    text,
};

/// Declares what is carried from where to where.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a pipeline, or change it to what the manifest says
    #[command(after_help = "\
The same manifest again changes nothing. References such as ${file:/run/secrets/mqtt/password} stay references: they \
are read on the node, and never stored or shown.

Examples:
  sluice pipelines apply -f readings.yaml
  sluice pipelines apply -f readings.yaml --dry-run    check only
  sed s/8/16/ readings.yaml | sluice pipelines apply -f -")]
    Apply {
        /// The manifest; '-' reads standard input
        #[arg(short, long, value_name = "PATH")]
        file: PathBuf,
        /// Check only, change nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show one pipeline; as a table, its manifest as it was applied
    Get {
        /// The pipeline's name
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// List all pipelines
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Stop reading; the MQTT sessions stay, so the broker's queue fills until resume
    Pause {
        /// The pipeline's name
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Read again after a pause
    Resume {
        /// The pipeline's name
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Drain a pipeline, end its MQTT sessions and forget it
    #[command(after_help = "\
Deleting unsubscribes, delivers what the broker still sends, and then ends the sessions for ever. It takes a \
while and goes on without this command; `sluice pipelines list` shows it as deleting until it is gone.

Examples:
  sluice pipelines delete readings --yes
  sluice pipelines delete readings --discard --yes    throw away what the MQTT broker still queues")]
    Delete {
        /// The pipeline's name
        name: String,
        /// Throw away what the MQTT broker still queues: readings that devices had acknowledged are lost
        #[arg(long)]
        discard: bool,
        /// Needed, since the pipeline's MQTT sessions cannot be brought back
        #[arg(long, required = true, action = ArgAction::SetTrue)]
        yes: bool,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Serialize)]
struct Pipeline {
    name: String,
    state: String,
    shards: u32,
    revision: u64,
    filters: Vec<String>,
    applied_at: Option<String>,
    manifest: String,
    #[serde(skip)]
    applied_at_unix_ms: u64,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Pipelines(Vec<Pipeline>);

/// The pipeline that a verb was about.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct One(Pipeline);

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Apply { file, dry_run, remote } => apply(&file, dry_run, &remote).await,
        Command::Get { name, remote } => get(name, &remote).await,
        Command::List { remote } => list(&remote).await,
        Command::Pause { name, remote } => pause(name, &remote).await,
        Command::Resume { name, remote } => resume(name, &remote).await,
        Command::Delete { name, discard, remote, .. } => delete(name, discard, &remote).await,
    }
}

async fn apply(file: &Path, dry_run: bool, remote: &Remote) -> Result<(), Failure> {
    let manifest = read(file)?;
    let mut client = client(remote).await?;
    let answer = client.apply_pipeline(request(admin::ApplyPipelineRequest { manifest, dry_run })).await;
    let answer = answer.map_err(|status| failure(&status, remote).in_manifest(&shown(file)))?.into_inner();
    let pipeline = answer.pipeline.unwrap_or_default();
    match (dry_run, answer.changed) {
        (true, true) => eprintln!("{}: is good and would change what is there", pipeline.name),
        (true, false) => eprintln!("{}: is good and says what is there already", pipeline.name),
        (false, true) => eprintln!("{}: applied as revision {}", pipeline.name, pipeline.revision),
        (false, false) => eprintln!("{}: unchanged", pipeline.name),
    }
    // There may be no pipeline to show.
    if dry_run {
        return Ok(());
    }
    output::print(&One(pipeline.into()), remote.output)
}

async fn get(name: String, remote: &Remote) -> Result<(), Failure> {
    let answer = client(remote).await?.get_pipeline(request(admin::GetPipelineRequest { name })).await;
    let answer = answer.map_err(|status| failure(&status, remote))?.into_inner();
    let pipeline = Pipeline::from(answer.pipeline.unwrap_or_default());
    match remote.output {
        Output::Table => write_line(pipeline.manifest.trim_end()),
        Output::Json => write_line(&output::json(&pipeline)?),
        Output::Yaml => write_line(&output::yaml(&pipeline)?),
    }
}

async fn list(remote: &Remote) -> Result<(), Failure> {
    let answer = client(remote).await?.list_pipelines(request(admin::ListPipelinesRequest {})).await;
    let answer = answer.map_err(|status| failure(&status, remote))?.into_inner();
    output::print(&Pipelines(answer.pipelines.into_iter().map(Pipeline::from).collect()), remote.output)
}

async fn pause(name: String, remote: &Remote) -> Result<(), Failure> {
    let answer = client(remote).await?.pause_pipeline(request(admin::PausePipelineRequest { name })).await;
    let answer = answer.map_err(|status| failure(&status, remote))?.into_inner();
    if !answer.notice.is_empty() {
        eprintln!("{}", answer.notice);
    }
    output::print(&One(answer.pipeline.unwrap_or_default().into()), remote.output)
}

async fn resume(name: String, remote: &Remote) -> Result<(), Failure> {
    let answer = client(remote).await?.resume_pipeline(request(admin::ResumePipelineRequest { name })).await;
    let answer = answer.map_err(|status| failure(&status, remote))?.into_inner();
    output::print(&One(answer.pipeline.unwrap_or_default().into()), remote.output)
}

async fn delete(name: String, discard: bool, remote: &Remote) -> Result<(), Failure> {
    let answer = client(remote).await?.delete_pipeline(request(admin::DeletePipelineRequest { name, discard })).await;
    let answer = answer.map_err(|status| failure(&status, remote))?.into_inner();
    let pipeline = answer.pipeline.unwrap_or_default();
    let what = if discard { "throwing away what the broker queues" } else { "delivering what is left" };
    eprintln!("{}: {what}, then it is gone; `sluice pipelines list` shows when", pipeline.name);
    output::print(&One(pipeline.into()), remote.output)
}

async fn client(remote: &Remote) -> Result<PipelineServiceClient<Connection>, Failure> {
    Ok(PipelineServiceClient::new(connect(remote).await?))
}

fn failure(status: &tonic::Status, remote: &Remote) -> Failure {
    Failure::from_status(status, &remote.admin)
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut manifest = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut manifest).map(|_| ())
    } else {
        std::fs::read_to_string(file).map(|text| manifest = text)
    };
    read.map_err(|error| Failure::usage(format!("cannot read the manifest {}: {error}", shown(file))))?;
    Ok(manifest)
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

const HEADER: &[&str] = &["NAME", "STATE", "SHARDS", "REVISION", "APPLIED", "FILTERS"];

impl Rows for Pipelines {
    const HEADER: &'static [&'static str] = HEADER;

    fn rows(&self) -> Vec<Vec<String>> {
        self.0.iter().map(Pipeline::row).collect()
    }
}

impl Rows for One {
    const HEADER: &'static [&'static str] = HEADER;

    fn rows(&self) -> Vec<Vec<String>> {
        vec![self.0.row()]
    }
}

impl Pipeline {
    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.state.clone(),
            self.shards.to_string(),
            self.revision.to_string(),
            text::since(self.applied_at_unix_ms),
            self.filters.join(" "),
        ]
    }
}

impl From<admin::Pipeline> for Pipeline {
    fn from(pipeline: admin::Pipeline) -> Self {
        Self {
            state: text::word(pipeline.state().as_str_name(), "PIPELINE_STATE_"),
            name: pipeline.name,
            shards: pipeline.shards,
            revision: pipeline.revision,
            filters: pipeline.filters,
            applied_at: text::time(pipeline.applied_at_unix_ms),
            manifest: pipeline.manifest,
            applied_at_unix_ms: pipeline.applied_at_unix_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_the_stated_ones() -> anyhow::Result<()> {
        let pipeline = Pipeline::from(admin::Pipeline {
            name: "readings".to_owned(),
            revision: 2,
            state: admin::PipelineState::Running.into(),
            shards: 8,
            filters: vec!["factory/#".to_owned()],
            applied_at_unix_ms: 1_763_829_000_123,
            manifest: "name: readings\n".to_owned(),
        });
        let expected = r#"[{"name":"readings","state":"running","shards":8,"revision":2,"filters":["factory/#"],"applied_at":"2025-11-22T16:30:00.123Z","manifest":"name: readings\n"}]"#;
        assert_eq!(output::json(&Pipelines(vec![pipeline]))?, expected);
        Ok(())
    }
}
