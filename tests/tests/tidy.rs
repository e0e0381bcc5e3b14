//! What machines can check of the style: sizes, headings, which part may know of which, links.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

/// Past this a file is two things.
const LINES_MAX: usize = 500;
/// What decides does not do: these import none of [`IO`].
const PURE: [&str; 17] = [
    "coordinator/src/attach/keep_alives.rs",
    "coordinator/src/machine",
    "coordinator/src/plan",
    "coordinator/src/model",
    "node/src/pipeline/mapping",
    "node/src/pipeline/tracker.rs",
    "node/src/pipeline/source/session",
    "node/src/lane/course.rs",
    "node/src/lane/recorded.rs",
    "node/src/task/claim.rs",
    "node/src/task/desired.rs",
    "node/src/task/lifecycle.rs",
    "node/src/task/table.rs",
    "loadtest/src/arrivals.rs",
    "loadtest/src/chaos/schedule.rs",
    "loadtest/src/oracle.rs",
    "loadtest/src/plan.rs",
];
const IO: [&str; 5] = ["tokio", "tonic", "openraft", "rdkafka", "std::net"];
/// The one place that may call into C itself.
const UNSAFE: &str = "node/src/pipeline/sink/";

#[test]
fn files_are_short_and_say_first_what_they_are() -> anyhow::Result<()> {
    for (path, text) in sources()? {
        let lines = text.lines().count();
        ensure!(lines <= LINES_MAX, "{path}: {lines} lines; past {LINES_MAX} it is two things");
        ensure!(text.starts_with("//!"), "{path} must begin with //!: what it is and what it promises");
    }
    Ok(())
}

#[test]
fn pure_folders_import_no_io() -> anyhow::Result<()> {
    let sources = sources()?;
    for pure in PURE {
        let files: Vec<_> = sources.iter().filter(|(path, _)| path.starts_with(pure)).collect();
        ensure!(!files.is_empty(), "{pure} does not exist; mend the list");
        for (path, text) in files {
            for name in IO {
                let found = code(text)
                    .find(|line| line.contains(&format!("{name}::")) || line.contains(&format!("use {name}")));
                ensure!(found.is_none(), "{path} is pure and must not know {name}: {found:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn crates_know_only_what_lies_before_them() -> anyhow::Result<()> {
    let arrows: [(&str, &[&str]); 5] = [
        ("proto", &[]),
        ("coordinator", &["sluice-proto"]),
        ("node", &["sluice-proto", "sluice-coordinator"]),
        // Both judge from outside, and so neither may know what they judge. They share the servers and the faults, which
        // loadtest has because `loadtest chaos` must run without the tests.
        ("loadtest", &["sluice-proto"]),
        // But for the simulation, which composes the product's parts; see below.
        ("tests", &["sluice-proto", "sluice-loadtest", "sluice-coordinator", "sluice-node"]),
    ];
    for (name, allowed) in arrows {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml"))?;
        for line in manifest.lines().filter(|line| line.starts_with("sluice-")) {
            let dependency = line.split(['.', ' ', '=']).next().context("a name")?;
            ensure!(allowed.contains(&dependency), "{name} must not depend on {dependency}");
        }
    }
    for (path, text) in sources()? {
        let judges = path.starts_with("tests/") && !path.starts_with("tests/sim/") && !path.ends_with("tests/tidy.rs");
        let knows =
            judges && code(&text).any(|line| line.contains("sluice_node") || line.contains("sluice_coordinator"));
        ensure!(!knows, "{path} judges from outside, and must not know what it judges");
    }
    Ok(())
}

#[test]
fn unsafe_code_is_in_one_small_module_and_nothing_is_unfinished() -> anyhow::Result<()> {
    let mut with_unsafe = Vec::new();
    for (path, text) in sources()? {
        if path.ends_with("tests/tidy.rs") {
            continue;
        }
        for line in code(&text) {
            ensure!(!line.contains("todo!") && !line.contains("unimplemented!"), "{path}: {line}");
            ensure!(!line.trim_start().starts_with("#[ignore"), "{path}: a test that does not run is no test");
        }
        if code(&text)
            .any(|line| line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"))
        {
            with_unsafe.push(path);
        }
    }
    ensure!(with_unsafe.iter().all(|path| path.starts_with(UNSAFE)), "unsafe code outside {UNSAFE}: {with_unsafe:?}");
    ensure!(with_unsafe.len() <= 1, "unsafe code belongs into one module: {with_unsafe:?}");
    Ok(())
}

#[test]
fn links_in_markdown_files_lead_somewhere() -> anyhow::Result<()> {
    let mut pages = Vec::new();
    collect(&root(), "md", &mut pages)?;
    ensure!(pages.contains(&root().join("README.md")), "there is a README");
    for page in pages {
        let text = fs::read_to_string(&page)?;
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let linked = if file.is_empty() { page.clone() } else { page.parent().context("a folder")?.join(file) };
            ensure!(linked.exists(), "{}: the link {target} leads nowhere", page.display());
            if !anchor.is_empty() && linked.extension().is_some_and(|extension| extension == "md") {
                let has_anchor = fs::read_to_string(&linked)?.lines().any(|line| slug(line).as_deref() == Some(anchor));
                ensure!(has_anchor, "{}: no heading for the link {target}", page.display());
            }
        }
    }
    Ok(())
}

/// The anchor of a heading, as code hosts make it.
fn slug(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

/// The lines of a file that are no comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Every Rust file of the workspace: path below the top, and text.
fn sources() -> anyhow::Result<Vec<(String, String)>> {
    let mut paths = Vec::new();
    collect(&root(), "rs", &mut paths)?;
    let sources = paths.into_iter().map(|path| {
        let text = fs::read_to_string(&path)?;
        Ok((path.strip_prefix(root())?.display().to_string(), text))
    });
    let sources: Vec<_> = sources.collect::<anyhow::Result<_>>()?;
    ensure!(sources.len() > 50, "only {} files: looking in the wrong place", sources.len());
    Ok(sources)
}

fn collect(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                collect(&path, extension, found)?;
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(())
}
