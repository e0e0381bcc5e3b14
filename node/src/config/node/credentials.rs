//! Certificates, keys and tokens of a node: named in its configuration, read when it starts, never shown.

use std::{fs, path::Path};

use super::{Node, Security};
use crate::config::{ConfigErrors, Secret, Value, collect};

/// Shorter tokens can be guessed over a fast network.
const TOKEN_CHARS_MIN: usize = 16;

/// What the files hold.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// For other nodes; none: no TLS.
    pub cluster: Option<ClusterCredentials>,
    /// For the admin listener; none: no TLS.
    pub admin: Option<Pair>,
    /// Who may use the admin listener; none: whoever reaches it.
    pub tokens: Option<Tokens>,
}

/// What nodes show each other.
#[derive(Debug, Clone)]
pub struct ClusterCredentials {
    /// PEM.
    pub ca: Vec<u8>,
    /// This node's own.
    pub own: Pair,
    /// The name that every node's certificate bears; none: the host in its address.
    pub server_name: Option<String>,
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// With what leads to its CA.
    pub cert: Vec<u8>,
    /// Never shown.
    pub key: Secret,
}

/// What callers of the admin interface show.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Looks and changes nothing; none: nobody has only this.
    pub read: Option<Secret>,
    /// May do everything.
    pub operate: Secret,
}

impl Node {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// Every file that cannot be used, and why.
    pub fn credentials(&self) -> Result<Credentials, ConfigErrors> {
        let (cluster, admin, tokens) = (self.cluster_credentials(), self.admin_pair(), self.tokens());
        // All that is wrong is told at once.
        let wrong = [cluster.as_ref().err(), admin.as_ref().err(), tokens.as_ref().err()];
        collect(wrong.into_iter().flatten().cloned().map(Err::<(), _>))?;
        Ok(Credentials { cluster: cluster?, admin: admin?, tokens: tokens? })
    }

    fn cluster_credentials(&self) -> Result<Option<ClusterCredentials>, ConfigErrors> {
        let Security::Tls(tls) = &self.clustering.security else { return Ok(None) };
        let ca = file("cluster_tls.ca_file", &tls.ca_file, "CERTIFICATE")?;
        let own = pair("cluster_tls", &tls.cert_file, &tls.key_file)?;
        Ok(Some(ClusterCredentials { ca, own, server_name: tls.server_name.clone() }))
    }

    fn admin_pair(&self) -> Result<Option<Pair>, ConfigErrors> {
        let Some(files) = &self.admin_tls else { return Ok(None) };
        pair("admin_tls", &files.cert_file, &files.key_file).map(Some)
    }

    fn tokens(&self) -> Result<Option<Tokens>, ConfigErrors> {
        let Some(tokens) = &self.admin_tokens else { return Ok(None) };
        let operate = self.token("admin_tokens.operate", &tokens.operate)?;
        let read = tokens.read.as_ref().map(|value| self.token("admin_tokens.read", value)).transpose()?;
        if read.as_ref() == Some(&operate) {
            return Err(ConfigErrors::whole(
                "admin_tokens.read",
                "is the same as admin_tokens.operate, so it would allow everything; give another",
            ));
        }
        Ok(Some(Tokens { read, operate }))
    }

    fn token(&self, key: &str, value: &Value) -> Result<Secret, ConfigErrors> {
        let text =
            self.secret_roots.resolve_text(value).map_err(|error| ConfigErrors::whole(key, error.to_string()))?;
        if text.len() < TOKEN_CHARS_MIN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigErrors::whole(
                key,
                format!(
                    "a token has at least {TOKEN_CHARS_MIN} characters, all of them visible ASCII; make one with `openssl rand -hex 32`"
                ),
            ));
        }
        Ok(Secret::new(text))
    }
}

fn pair(key: &str, cert_file: &Path, key_file: &Path) -> Result<Pair, ConfigErrors> {
    let cert = file(&format!("{key}.cert_file"), cert_file, "CERTIFICATE")?;
    let key = file(&format!("{key}.key_file"), key_file, "PRIVATE KEY")?;
    Ok(Pair { cert, key: Secret::new(key) })
}

/// A PEM file that holds at least one block of this kind.
fn file(key: &str, path: &Path, kind: &str) -> Result<Vec<u8>, ConfigErrors> {
    let wrong = |why: String| ConfigErrors::whole(key, format!("{}: {why}", path.display()));
    let text = fs::read(path)
        .map_err(|error| wrong(format!("cannot be read: {error}; correct the path, or let the node read it")))?;
    let end = format!("{kind}-----");
    if !text.windows(end.len()).any(|window| window == end.as_bytes()) {
        return Err(wrong(format!("holds no PEM block `{kind}`; give the file that does")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Host, Overrides};

    fn node(file: &str) -> Result<Node, ConfigErrors> {
        let host = Host { name: Some("n".to_owned()), cores: std::num::NonZeroUsize::MIN };
        Node::load(Some(("sluice.yaml", file)), &BTreeMap::new(), &Overrides::default(), &host)
    }

    #[test]
    fn what_cannot_be_used_is_told_at_once_and_no_secret_with_it() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        fs::write(&cert, "-----BEGIN CERTIFICATE-----\n")?;
        fs::write(&key, "hunter2")?;
        let (cert, key) = (cert.display(), key.display());
        let text = format!(
            "admin_tls: {{cert_file: {cert}, key_file: {key}}}\nadmin_tokens: {{read: abc, operate: 0123456789abcdef}}\n"
        );
        let said = node(&text)?.credentials().map(drop).map_err(|errors| errors.to_string());
        let want = format!(
            "admin_tls.key_file: {key}: holds no PEM block `PRIVATE KEY`; give the file that does\n\
             admin_tokens.read: a token has at least 16 characters, all of them visible ASCII; make one with `openssl rand -hex 32`"
        );
        assert_eq!(said, Err(want));
        let same = "admin_tokens: {read: 0123456789abcdef, operate: 0123456789abcdef}";
        let said = node(same)?.credentials().map(drop).map_err(|errors| errors.to_string());
        assert!(said.is_err_and(|said| said.contains("the same as")));
        Ok(())
    }

    #[test]
    fn tokens_come_from_text_or_file_and_are_never_shown() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("token");
        fs::write(&path, "0123456789abcdef0\n")?;
        let text = format!(
            "secret_roots: [{}]\nadmin_tokens: {{read: 'hunter2-hunter2-hunter2', operate: '${{file:{}}}'}}\n",
            dir.path().display(),
            path.display()
        );
        let node = node(&text)?;
        let credentials = node.credentials()?;
        let tokens = credentials.tokens.as_ref().ok_or_else(|| anyhow::anyhow!("tokens"))?;
        assert_eq!(tokens.operate.expose(), b"0123456789abcdef0");
        assert!(!format!("{credentials:?} {node:?} {}", node.to_yaml()?).contains("hunter2"));
        Ok(())
    }
}
