//! Bodies through the console: what is not edited stays as it was sent, to the byte.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::console::stage::{ADMIN, OPERATOR, Stage};

/// Any JSON library would change some of this.
const SENT: &str = "{ \"linkCustomers\":[ {\"x\":1.10,\"x\":2,\"customer\":{\"id\":1},\"linkToPartnerPrograms\":7\t}]}\n";
const WRONG: &str = "\"linkToPartnerPrograms\":7";
const RIGHT: &str = "\"linkToPartnerPrograms\":[]";

async fn letter(stage: &mut Stage, id: u128, body: &[u8]) -> uuid::Uuid {
    let id = uuid::Uuid::from_u128(id);
    sqlx::query(
        "insert into dead_letter (id, org_code, operation, reason, detail, fingerprint, exchange, \
             routing_key, properties, headers, body) \
         values ($1, 'acme', 'link', 'not-an-array', '', 'f', '', 'acme.link', '{}', '{}', $2)",
    )
    .bind(id)
    .bind(body)
    .execute(&mut stage.rows)
    .await
    .unwrap();
    id
}

/// Status and body of an answer.
async fn ask(
    url: &str,
    token: &str,
    method: &str,
    path: &str,
    kind: &str,
    body: &[u8],
) -> (u16, Vec<u8>) {
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    let answered = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    });
    let answer = answered.await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

async fn copies(stage: &mut Stage) -> Vec<Vec<u8>> {
    let query = "select body from dead_letter where edited_from is not null order by sequence";
    sqlx::query_scalar(query).fetch_all(&mut stage.rows).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_changes_what_was_edited_and_nothing_else() {
    let mut stage = Stage::with_letters("console_bytes", 1).await;
    let id = letter(&mut stage, 1, SENT.as_bytes()).await;
    let (status, page) =
        ask(&stage.url, ADMIN, "GET", &format!("/dead-letters/{id}/edit"), "text/plain", b"").await;
    assert_eq!(status, 200);
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("&#34;x&#34;: 1.10,\n"), "{page}");
    // As a browser sends what it shows.
    let shown = SENT.replace(",\"", ",\n    \"").replace(WRONG, RIGHT).replace('\n', "\r\n");
    let form: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("routing_key", "acme.link")
        .append_pair("body", &shown)
        .append_pair("reason", "typing error")
        .append_pair("do", "save")
        .finish();
    let kind = "application/x-www-form-urlencoded";
    let path = format!("/dead-letters/{id}/edit");
    let (status, _) = ask(&stage.url, ADMIN, "POST", &path, kind, form.as_bytes()).await;
    assert_eq!(status, 303);
    assert_eq!(copies(&mut stage).await, [SENT.replace(WRONG, RIGHT).into_bytes()]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_text_is_downloaded_and_uploaded() {
    let mut stage = Stage::with_letters("console_no_text", 1).await;
    let latin = [&b"{\"name\":\"caf"[..], b"\xe9\"}"].concat();
    let id = letter(&mut stage, 2, &latin).await;
    let edit = format!("/dead-letters/{id}/edit");
    let (status, page) = ask(&stage.url, ADMIN, "GET", &edit, "text/plain", b"").await;
    let page = String::from_utf8(page).unwrap();
    assert!(status == 200 && page.contains("byte 12 of the body is no UTF-8"), "{page}");
    assert!(!page.contains("<textarea"), "{page}");

    let body = format!("/dead-letters/{id}/body");
    assert_eq!(ask(&stage.url, OPERATOR, "GET", &body, "text/plain", b"").await.0, 403);
    let downloaded = ask(&stage.url, ADMIN, "GET", &body, "text/plain", b"").await;
    assert_eq!(downloaded, (200, latin));
    let noted = "select count(*) from dead_letter_action where action = 'unmask' \
                 and reason = 'to download the body'";
    assert_eq!(stage.count(noted).await, 1);

    let changed = SENT.replace(WRONG, RIGHT);
    let upload = format!(
        "--b\r\ncontent-disposition: form-data; name=\"routing_key\"\r\n\r\nacme.link\r\n\
         --b\r\ncontent-disposition: form-data; name=\"body\"; filename=\"body\"\r\n\r\n{changed}\r\n\
         --b\r\ncontent-disposition: form-data; name=\"reason\"\r\n\r\nOPS-9\r\n--b--\r\n"
    );
    let path = format!("/dead-letters/{id}/upload");
    let kind = "multipart/form-data; boundary=b";
    let refused = ask(&stage.url, OPERATOR, "POST", &path, kind, upload.as_bytes()).await;
    assert_eq!(refused.0, 403);
    let (status, _) = ask(&stage.url, ADMIN, "POST", &path, kind, upload.as_bytes()).await;
    assert_eq!(status, 303);
    assert_eq!(copies(&mut stage).await, [changed.into_bytes()]);
    stage.end().await;
}
