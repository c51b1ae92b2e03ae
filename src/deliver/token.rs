//! What requests prove themselves with: a bearer token, or headers that a program prints.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use reqwest::header::{HeaderMap, HeaderValue};

use super::command::{COMMAND_LIMIT, LENGTH_LIMIT, run};
use super::credential::Renewable;
use super::http;
use crate::config::{Token, printed_headers};

/// The `Authorization` of requests, from the environment, a file or a command.
pub(super) fn bearer(source: Token) -> Renewable<HeaderValue> {
    Renewable::new(!matches!(source, Token::Value(_)), move || match &source {
        Token::Value(token) => header(token.expose().as_bytes(), "the token"),
        Token::File(path) => {
            let text = read_file(path).map_err(|error| format!("token file {}: {error}", path.display()))?;
            header(&text, "the content of the token file")
        }
        Token::Command(command) => {
            header(&run("token", command, COMMAND_LIMIT)?, "the output of the token command")
        }
    })
}

/// Headers of requests from a command.
pub(super) fn headers(command: Vec<String>) -> Renewable<HeaderMap> {
    Renewable::new(true, move || {
        let text = String::from_utf8(run("headers", &command, COMMAND_LIMIT)?)
            .map_err(|_| "the output of the headers command is not UTF-8".to_owned())?;
        let headers = printed_headers(&text)
            .map_err(|problem| format!("the output of the headers command: {problem}"))?;
        http::headers(&headers).map_err(|error| error.to_string())
    })
}

fn header(text: &[u8], what: &str) -> Result<HeaderValue, String> {
    let token = text.trim_ascii();
    if token.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if token.len() as u64 > LENGTH_LIMIT {
        return Err(format!("{what} is longer than {LENGTH_LIMIT} bytes"));
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .map_err(|_| format!("{what} cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe without a writer would be waited for.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(LENGTH_LIMIT + 1).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_token_is_trimmed() {
        assert_eq!(header(b" abc \n", "it").unwrap(), "Bearer abc");
    }

    #[tokio::test]
    async fn headers_are_printed_as_json_or_as_a_list_and_nothing_half_read_is_used() {
        let printed = |text: &str| {
            let command = ["printf", "%s", text].map(str::to_owned).to_vec();
            async move { headers(command).current().await }
        };
        for text in
            [r#" {"Authorization":"Bearer x=y", "x-team":"a"}"#, "authorization=Bearer%20x=y,X-Team=a\n"]
        {
            let headers = printed(text).await.unwrap();
            assert_eq!(
                (&headers["authorization"], &headers["x-team"]),
                (&"Bearer x=y".parse().unwrap(), &"a".parse().unwrap())
            );
            assert!(!format!("{headers:?}").contains("x=y"));
        }
        for (text, words) in [
            ("", "is empty"),
            ("s3cret", "has no \"=\""),
            (r#"{"a":1}"#, "no JSON object"),
            ("content-type=s3cret", "cannot be set"),
            ("a=s3cret,b c=1", "not one of an HTTP header"),
        ] {
            let error = printed(text).await.unwrap_err();
            assert!(error.contains(words) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_a_token_is_refused() {
        for (text, words) in
            [(&b" \n"[..], "empty"), (b"a\nb", "cannot be sent"), (&[b'a'; 70_000], "longer")]
        {
            assert!(header(text, "it").unwrap_err().contains(words));
        }
        assert_eq!(format!("{:?}", header(b"s3cret", "it").unwrap()), "Sensitive");
        let dir = tempfile::tempdir().unwrap();
        assert!(read_file(dir.path()).is_err());
    }

    #[tokio::test]
    async fn a_refused_token_is_renewed_once_for_all_who_had_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let token = bearer(Token::File(path.clone()));
        let one = token.current().await.unwrap();
        assert_eq!(token.renewed(&one).await, Ok(None));
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(token.current().await.unwrap(), one);
        let two = token.renewed(&one).await.unwrap().unwrap();
        assert_eq!(two, "Bearer two");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(token.renewed(&one).await, Ok(Some(two.clone())));
        assert!(token.renewed(&two).await.unwrap_err().contains("token file"));
        let fixed = bearer(Token::Value(Secret::new("x")));
        let x = fixed.current().await.unwrap();
        assert_eq!(fixed.renewed(&x).await, Ok(None));
    }
}
