//! A directory of pipeline files.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{ConfigErrors, Manifest};

/// Reads all `*.yaml` and `*.yml` files of a directory, in the order of their names; a file may hold several documents.
/// What begins with a dot is left out (Kubernetes mounts its own data so), and so are directories.
///
/// # Errors
/// Everything that is wrong in any file, and names that are used twice.
pub fn load_dir(dir: &Path) -> Result<Vec<Manifest>, ConfigErrors> {
    let place = dir.display().to_string();
    let paths = paths(dir).map_err(|error| {
        ConfigErrors::whole(&*place, format!("pipelines_dir cannot be read: {error}; create it, or correct the path"))
    })?;
    let manifests = super::collect(paths.iter().map(|path| load_file(path)))?.into_iter().flatten().collect();
    refuse_repeated_names(manifests)
}

/// What tells whether [`load_dir`] would read something else than before: its files, which these are, their times of change and lengths.
///
/// # Errors
/// The directory or a file cannot be looked at, as while they are being replaced.
pub(crate) fn marks(dir: &Path) -> io::Result<Vec<(PathBuf, u64, SystemTime, u64)>> {
    let mark = |path: PathBuf| {
        let metadata = fs::metadata(&path)?;
        Ok((path, metadata.ino(), metadata.modified()?, metadata.len()))
    };
    paths(dir)?.into_iter().map(mark).collect()
}

fn paths(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| is_pipeline_file(path));
    paths.sort();
    Ok(paths)
}

/// Reads the pipelines of one file.
///
/// # Errors
/// The file cannot be read, or anything in it is wrong.
pub fn load_file(path: &Path) -> Result<Vec<Manifest>, ConfigErrors> {
    let origin = path.display().to_string();
    let text =
        fs::read_to_string(path).map_err(|error| ConfigErrors::whole(&*origin, format!("cannot be read: {error}")))?;
    Manifest::parse_all(&text, &origin)
}

/// Reads the pipelines of a file that somebody has named, so that one at least is meant to be in it.
///
/// # Errors
/// Those of [`load_file`], and that there is none.
pub fn load_named(path: &Path) -> Result<Vec<Manifest>, ConfigErrors> {
    let manifests = load_file(path)?;
    if manifests.is_empty() {
        return Err(ConfigErrors::whole(path.display().to_string(), "holds no pipeline"));
    }
    Ok(manifests)
}

fn is_pipeline_file(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !is_hidden && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") && !path.is_dir()
}

fn refuse_repeated_names(manifests: Vec<Manifest>) -> Result<Vec<Manifest>, ConfigErrors> {
    let mut origins = BTreeMap::new();
    let repeated = manifests.iter().filter_map(|manifest| {
        let earlier = origins.insert(&manifest.name, manifest.origin())?;
        let message = format!("the pipeline {} is already declared in {earlier}; rename one of them", manifest.name);
        Some(Err::<(), _>(ConfigErrors::whole(manifest.origin(), message)))
    });
    super::collect(repeated)?;
    Ok(manifests)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn pipeline(name: &str) -> String {
        format!(
            "name: {name}\nsource: {{mqtt: {{servers: [mqtt://b], topics: [a/#]}}}}\ndefault_topic: t\n\
             sink: {{kafka: {{bootstrap.servers: k}}}}\n"
        )
    }

    #[test]
    fn a_named_file_holds_a_pipeline() -> Outcome {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a.yaml");
        fs::write(&path, "# nothing yet\n")?;
        assert!(load_file(&path)?.is_empty(), "in a directory it may wait to be filled");
        assert!(load_named(&path).is_err_and(|error| error.to_string().ends_with("a.yaml: holds no pipeline")));
        Ok(())
    }

    #[test]
    fn files_are_read_in_the_order_of_their_names() -> Outcome {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("b.yml"), pipeline("second"))?;
        fs::write(dir.path().join("a.yaml"), format!("{}---\n{}", pipeline("zero"), pipeline("first")))?;
        fs::write(dir.path().join("c.txt"), "not yaml: [")?;
        fs::write(dir.path().join(".hidden.yaml"), "not yaml: [")?;
        fs::create_dir(dir.path().join("d.yaml"))?;
        let manifests = load_dir(dir.path())?;
        assert_eq!(
            manifests.iter().map(|manifest| manifest.name.as_str()).collect::<Vec<_>>(),
            ["zero", "first", "second"]
        );
        assert_eq!(manifests[1].document(), format!("---\n{}", pipeline("first")));
        Ok(())
    }

    #[test]
    fn the_errors_of_all_files_are_told() -> Outcome {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("a.yaml"), pipeline("BAD"))?;
        fs::write(dir.path().join("b.yaml"), "name: x: y\n")?;
        let errors = load_dir(dir.path()).map(drop).map_err(|errors| errors.to_string().lines().count());
        assert_eq!(errors, Err(2));
        Ok(())
    }

    #[test]
    fn a_name_is_declared_once() -> Outcome {
        let dir = tempfile::tempdir()?;
        let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
        fs::write(&a, pipeline("same"))?;
        fs::write(&b, pipeline("same"))?;
        let want =
            format!("{}: the pipeline same is already declared in {}; rename one of them", b.display(), a.display());
        assert_eq!(load_dir(dir.path()).map(drop).map_err(|errors| errors.to_string()), Err(want));
        Ok(())
    }

    #[test]
    fn an_absent_directory_is_told() {
        let want = "/absent/dir: pipelines_dir cannot be read: No such file or directory (os error 2); create it, or correct the path";
        assert_eq!(load_dir(Path::new("/absent/dir")).map(drop).map_err(|e| e.to_string()), Err(want.to_owned()));
    }
}
