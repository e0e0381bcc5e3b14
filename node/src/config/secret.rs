//! Secrets: named in a manifest as `${file:/path}`, read on the node, never shown.
//!
//! Only files beneath configured roots are read, after symbolic links are followed: a manifest that comes in over the admin
//! API must not make a node read any file it can.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
    str::FromStr,
};

/// Largest secret file: a private key with its certificate chain fits many times over, a wrong path mostly does not.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Bytes that are never shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Hides `bytes`.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes; whoever asks takes care of them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A value that is written in the manifest, or names a file that holds it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// The value itself.
    Literal(Secret),
    /// `${file:/path}`
    File(PathBuf),
}

/// Why a text is not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// `${…}` of another kind, or with text around it.
    #[error("`${{` begins a reference, which has the form ${{file:/absolute/path}} and is the whole value")]
    Form,
    /// A relative path.
    #[error("the path of a ${{file:…}} reference must be absolute, without `..`; found {0:?}")]
    Relative(PathBuf),
}

impl FromStr for Value {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if !text.contains("${") {
            return Ok(Self::Literal(Secret::new(text)));
        }
        let path = text.strip_prefix("${file:").and_then(|text| text.strip_suffix('}')).ok_or(ReferenceError::Form)?;
        if path.contains(['{', '}']) {
            return Err(ReferenceError::Form);
        }
        let path = PathBuf::from(path);
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(ReferenceError::Relative(path));
        }
        Ok(Self::File(path))
    }
}

impl Value {
    /// The value for people: a reference as it was written; a literal as it is, or hidden if it is a secret.
    pub fn show(&self, is_secret: bool) -> String {
        match self {
            Self::File(path) => format!("${{file:{}}}", path.display()),
            Self::Literal(_) if is_secret => "(hidden)".to_owned(),
            Self::Literal(text) => String::from_utf8_lossy(text.expose()).into_owned(),
        }
    }

    /// The text, where it is written in the manifest.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => std::str::from_utf8(text.expose()).ok(),
            Self::File(_) => None,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show(true))
    }
}

/// A secret that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is not beneath a root.
    #[error("secret file {path}: is outside the secret roots ({roots}); move it there, or add its directory to the node's secret_roots", path = .path.display())]
    Outside {
        /// The file.
        path: PathBuf,
        /// The roots, for people.
        roots: String,
    },
    /// The file does not exist.
    #[error("secret file {}: does not exist on this node; create it, or correct the ${{file:…}} reference", .0.display())]
    Missing(PathBuf),
    /// The file is too large for a secret.
    #[error("secret file {}: is larger than {SECRET_BYTES_MAX} bytes, so it is hardly a secret; correct the ${{file:…}} reference", .0.display())]
    TooLarge(PathBuf),
    /// A directory or device.
    #[error("secret file {}: is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// What must be text is not.
    #[error("secret file {}: is not UTF-8 text, which this value must be", .0.display())]
    NotText(PathBuf),
    /// It exists and cannot be read.
    #[error("secret file {path}: cannot be read: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Directories beneath which secrets may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRoots(Vec<PathBuf>);

impl SecretRoots {
    /// Roots that need not exist yet.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self(roots)
    }

    /// The roots as configured.
    pub fn paths(&self) -> &[PathBuf] {
        &self.0
    }

    /// The value itself, read from its file if it is a reference. One newline at the end of the file is not part of it.
    ///
    /// # Errors
    /// Says which file cannot be read and why.
    pub fn resolve(&self, value: &Value) -> Result<Secret, SecretError> {
        match value {
            Value::Literal(secret) => Ok(secret.clone()),
            Value::File(path) => self.read(path).map(Secret),
        }
    }

    /// As [`Self::resolve`], for a value that must be text.
    ///
    /// # Errors
    /// As [`Self::resolve`], or the file does not hold UTF-8.
    pub fn resolve_text(&self, value: &Value) -> Result<String, SecretError> {
        let bytes = self.resolve(value)?.0;
        let path = || if let Value::File(path) = value { path.clone() } else { PathBuf::new() };
        String::from_utf8(bytes).map_err(|_| SecretError::NotText(path()))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, SecretError> {
        let outside = || SecretError::Outside {
            path: path.to_owned(),
            roots: self.0.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", "),
        };
        let real = path.canonicalize().map_err(|error| {
            // What lies outside the roots is not even told to exist or not.
            if !self.0.iter().any(|root| path.starts_with(root)) {
                return outside();
            }
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => SecretError::Missing(path.to_owned()),
                _ => SecretError::Io { path: path.to_owned(), error },
            }
        })?;
        let mut roots = self.0.iter().filter_map(|root| root.canonicalize().ok());
        if !roots.any(|root| real.starts_with(root)) {
            return Err(outside());
        }
        let io = |error| SecretError::Io { path: path.to_owned(), error };
        if !fs::metadata(&real).map_err(io)?.is_file() {
            return Err(SecretError::NotAFile(path.to_owned())); // asked before it is opened: opening a pipe would wait
        }
        let mut bytes = Vec::new();
        fs::File::open(&real).map_err(io)?.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > SECRET_BYTES_MAX {
            return Err(SecretError::TooLarge(path.to_owned()));
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn file(path: &Path) -> Value {
        Value::File(path.to_owned())
    }

    #[test]
    fn a_reference_is_the_whole_value() {
        assert_eq!("${file:/run/secrets/a b}".parse(), Ok(Value::File("/run/secrets/a b".into())));
        assert_eq!("plain $value".parse(), Ok(Value::Literal(Secret::new("plain $value"))));
        for bad in ["${env:HOME}", "x${file:/a}", "${file:/a}x", "${file:/a", "${file:/a}${file:/b}", "${HOME}"] {
            assert_eq!(bad.parse::<Value>(), Err(ReferenceError::Form), "{bad}");
        }
        assert_eq!("${file:a}".parse::<Value>(), Err(ReferenceError::Relative("a".into())));
        assert_eq!("${file:/a/../b}".parse::<Value>(), Err(ReferenceError::Relative("/a/../b".into())));
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_a_secret() -> Outcome {
        let root = tempfile::tempdir()?;
        let roots = SecretRoots::new(vec!["/nowhere".into(), root.path().to_owned()]);
        let path = root.path().join("password");
        for (content, want) in
            [("pw", "pw"), ("pw\n", "pw"), ("pw\r\n", "pw"), ("pw\n\n", "pw\n"), (" pw ", " pw "), ("", "")]
        {
            fs::write(&path, content)?;
            assert_eq!(roots.resolve(&file(&path))?.expose(), want.as_bytes(), "{content:?}");
        }
        Ok(())
    }

    #[test]
    fn nothing_outside_the_roots_is_read() -> Outcome {
        let dir = tempfile::tempdir()?;
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root)?;
        fs::write(&outside, "x")?;
        symlink(&outside, root.join("escape"))?;
        symlink(dir.path(), root.join("up"))?;
        fs::write(root.join("real"), "y")?;
        symlink(root.join("real"), root.join("inner"))?;
        let roots = SecretRoots::new(vec![root.clone()]);
        for path in
            [outside, root.join("escape"), root.join("up/outside"), dir.path().join("absent"), "/etc/passwd".into()]
        {
            assert!(matches!(roots.resolve(&file(&path)), Err(SecretError::Outside { .. })), "{}", path.display());
        }
        assert_eq!(roots.resolve(&file(&root.join("inner")))?.expose(), b"y", "a link within the root is as good");
        Ok(())
    }

    #[test]
    fn what_cannot_be_a_secret_says_why() -> Outcome {
        let root = tempfile::tempdir()?;
        let roots = SecretRoots::new(vec![root.path().to_owned()]);
        let path = root.path().join("s");
        assert!(matches!(roots.resolve(&file(&path)), Err(SecretError::Missing(_))));
        assert!(matches!(roots.resolve(&file(root.path())), Err(SecretError::NotAFile(_))));
        fs::write(&path, vec![b'x'; 65_537])?;
        assert!(matches!(roots.resolve(&file(&path)), Err(SecretError::TooLarge(_))));
        fs::write(&path, [0xff])?;
        assert!(matches!(roots.resolve_text(&file(&path)), Err(SecretError::NotText(_))));
        assert_eq!(roots.resolve(&file(&path))?.expose(), [0xff]);
        Ok(())
    }

    #[test]
    fn debug_never_shows_a_secret() -> Result<(), ReferenceError> {
        assert_eq!(format!("{:?} {:?}", Secret::new("hunter2"), "hunter2".parse::<Value>()?), "Secret(…) (hidden)");
        Ok(())
    }
}
