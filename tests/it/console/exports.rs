//! Downloads of any size, and what becomes of those that are broken off.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::console::stage::{ADMIN, Stage};

/// More than fits into the memory that an export may take.
const LETTERS: i32 = 90;
const LETTER_BYTES: usize = 1_000_000;

const BODY: &str = "action=export&reason=x&filter={}";

async fn stage(name: &str) -> Stage {
    let mut stage = Stage::with_letters(name, 1).await;
    sqlx::query(
        "insert into dead_letter (id, operation, reason, detail, fingerprint, exchange, routing_key, \
             properties, headers, body) \
         select gen_random_uuid(), 'link', 'not-json', '', 'f', '', '', '{}', '{}', \
             convert_to(repeat('x', $2), 'utf8') from generate_series(1, $1)",
    )
    .bind(LETTERS)
    .bind(i32::try_from(LETTER_BYTES).unwrap())
    .execute(&mut stage.rows)
    .await
    .unwrap();
    stage
}

/// Begins a download.
fn download(url: &str) -> TcpStream {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "POST /dead-letters/export HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {ADMIN}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_may_have_any_size() {
    let mut stage = stage("console_large_export").await;
    let url = stage.url.clone();
    let bytes = tokio::task::spawn_blocking(move || {
        let mut stream = download(&url);
        let mut bytes = 0;
        let mut chunk = vec![0; 1 << 20];
        loop {
            match stream.read(&mut chunk).unwrap() {
                0 => return bytes,
                some => bytes += some,
            }
        }
    });
    let whole = usize::try_from(LETTERS).unwrap() * LETTER_BYTES;
    let bytes = bytes.await.unwrap();
    assert!(bytes > whole, "{bytes} bytes");
    let done = "select count(*) from bulk_job where state = 'done'";
    assert_eq!(stage.count(done).await, 1);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_broken_off_has_failed() {
    let mut stage = stage("console_broken_export").await;
    let url = stage.url.clone();
    tokio::task::spawn_blocking(move || {
        let mut stream = download(&url);
        stream.read_exact(&mut [0; 10_000]).unwrap();
    })
    .await
    .unwrap();
    stage.counted("select count(*) from bulk_job where state = 'failed'", 1).await;
    stage.end().await;
}
