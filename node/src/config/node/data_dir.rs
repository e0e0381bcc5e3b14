//! Whether `data_dir` can be made where the configuration says.

use std::fs;

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
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return refuse(format!("{}: {error}; correct the path", dir.display())),
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
        let told = check(&file.join("below")).map_err(|errors| errors.to_string());
        assert!(told.is_err_and(|told| told.starts_with("data_dir: ") && told.contains("file")));
        Ok(())
    }
}
