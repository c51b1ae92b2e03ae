//! Hashes that say which skill or repository it is without saying where: SHA-1, as the app server makes them.

use sha1_smol::Sha1;

/// Id of a skill that belongs to no repository with a remote: SHA-1 of `personal_PATH_NAME`.
pub(super) fn personal_skill(path: &str, name: &str) -> String {
    sha1(&[b"personal_", path.replace('\\', "/").as_bytes(), b"_", name.as_bytes()])
}

/// Id of a skill in a repository: SHA-1 of `repo_REMOTE_PATH_NAME`, with the path relative to its root.
pub(super) fn repository_skill(remote: &str, path: &str, name: &str) -> String {
    let remote = without_credentials(remote);
    sha1(&[b"repo_", remote.as_bytes(), b"_", path.replace('\\', "/").as_bytes(), b"_", name.as_bytes()])
}

/// Hash of a repository: SHA-1 over the canonical form of its remote.
pub(super) fn repository(remote: &str) -> String {
    sha1(&[b"file-line-v1\0repo\0", canonical(remote).unwrap_or_else(|| remote.to_owned()).as_bytes()])
}

fn sha1(parts: &[&[u8]]) -> String {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    hash.digest().to_string()
}

fn without_credentials(remote: &str) -> String {
    match remote.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.find('/').unwrap_or(rest.len());
            match rest.get(..authority).and_then(|authority| authority.rfind('@')) {
                Some(at) => format!("{scheme}://{}", rest.get(at + 1..).unwrap_or("")),
                None => remote.to_owned(),
            }
        }
        None => remote.to_owned(),
    }
}

// host/path: lower-case host, no user, no default port, no `.git`, no query; path in lower case on github.com.
fn canonical(remote: &str) -> Option<String> {
    let remote = remote.trim();
    let (authority, path, scheme) = match remote.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/')?;
            (authority, path, scheme)
        }
        None => {
            let (authority, path) = remote.split_once(':')?;
            (authority, path, "ssh")
        }
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_ascii_lowercase();
    let default = match scheme {
        "git" => ":9418",
        "http" => ":80",
        "https" => ":443",
        "ssh" => ":22",
        _ => "",
    };
    let host = if default.is_empty() { host.as_str() } else { host.strip_suffix(default).unwrap_or(&host) };
    let path = path.split(['?', '#']).next().unwrap_or("").trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    if host.is_empty() || path.split('/').filter(|part| !part.is_empty()).count() < 2 {
        return None;
    }
    let path = if host == "github.com" { path.to_ascii_lowercase() } else { path.to_owned() };
    Some(format!("{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_has_one_hash_however_it_is_written() {
        for (remote, expected) in [
            ("git@github.com:Acme/Tool.git", Some("github.com/acme/tool")),
            ("https://user:token@GitHub.com:443/acme/tool.git?x=1", Some("github.com/acme/tool")),
            ("ssh://git@example.org:22/Acme/Tool/", Some("example.org/Acme/Tool")),
            ("ssh://git@example.org:2222/Acme/Tool", Some("example.org:2222/Acme/Tool")),
            ("https://example.org/tool", None),
            ("/srv/git/tool", None),
        ] {
            assert_eq!(canonical(remote).as_deref(), expected, "{remote}");
        }
        assert_eq!(repository("git@github.com:acme/tool"), repository("https://github.com/Acme/Tool.git"));
    }

    #[test]
    fn a_skill_id_is_the_hash_the_app_server_makes() {
        let id = personal_skill("/tmp/lab/home/skills/user-greeter/SKILL.md", "user-greeter");
        assert_eq!(id, "9e2aae29643ca1865fea730f78c45bda67262fca");
    }

    #[test]
    fn credentials_never_get_into_a_hash() {
        assert_eq!(without_credentials("https://me:secret@host/a/b.git"), "https://host/a/b.git");
        assert_ne!(
            repository_skill("https://host/a/b", "s", "n"),
            repository_skill("https://host/a/c", "s", "n")
        );
    }
}
