//! Whether `data_dir` is a directory, or stands where one can be made. Whether it can be written to shows when the node starts.

use std::{fs, io::ErrorKind};

use super::Node;
use crate::config::ConfigErrors;

impl Node {
    /// Looks at what is there, and makes nothing.
    ///
    /// # Errors
    /// What stands where a directory must be, or cannot be looked at.
    pub fn check_data_dir(&self) -> Result<(), ConfigErrors> {
        let refuse = |message| Err(ConfigErrors::whole("data_dir", message));
        for dir in self.data_dir.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
            match fs::metadata(dir) {
                Ok(found) if found.is_dir() => break,
                Ok(_) => return refuse(format!("{} is not a directory; give another path", dir.display())),
                // What it stands in says more.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) => return refuse(format!("{} cannot be looked at: {error}", dir.display())),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, num::NonZeroUsize};

    use super::*;
    use crate::config::{Host, Overrides};

    #[test]
    fn a_directory_beneath_a_file_cannot_be() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("file");
        fs::write(&file, "")?;
        let check = |data_dir: &std::path::Path| {
            let flags = Overrides { data_dir: Some(data_dir.display().to_string()), ..Overrides::default() };
            let host = Host { name: Some("node".to_owned()), cores: NonZeroUsize::MIN };
            Node::load(None, &BTreeMap::new(), &flags, &host)?.check_data_dir()
        };
        assert_eq!(check(&dir.path().join("absent/deeper")), Ok(()));
        let want = format!("data_dir: {} is not a directory; give another path", file.display());
        for path in [file.clone(), file.join("below"), file.join("far/below")] {
            assert_eq!(check(&path).map_err(|errors| errors.to_string()), Err(want.clone()));
        }
        Ok(())
    }
}
