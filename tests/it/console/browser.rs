//! A headless Chromium of a test's own, driven through a chromedriver on a free port.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use thirtyfour::common::capabilities::chromium::ChromiumLikeCapabilities;
use thirtyfour::prelude::{By, ElementQueryable, WebDriver, WebElement};
use thirtyfour::{DesiredCapabilities, Key};

use crate::console::stage::Stage;
use crate::harness::eventually;

/// How long a page may take to say what is waited for.
const SOON: Duration = Duration::from_secs(20);
/// What chromedriver says when it listens.
const LISTENS: &str = "started successfully on port ";

/// A browser, and the console that it is to look at.
pub(crate) struct Browser {
    pub(crate) page: WebDriver,
    url: String,
    driver: Child,
    _profile: TempDir,
}

/// Whether pages may run scripts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scripts {
    On,
    Off,
}

impl Browser {
    pub(crate) async fn open(stage: &Stage, scripts: Scripts) -> Self {
        let profile = tempfile::tempdir().expect("a folder for the profile");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // The browser's processes belong to the group, and end with it.
            .process_group(0)
            .spawn()
            .expect("chromedriver is installed: scripts/install.sh");
        let words = BufReader::new(driver.stdout.take().expect("its words are piped"));
        let port = words
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                let port = line.split_once(LISTENS)?.1.trim_end_matches('.').to_owned();
                Some(port)
            })
            .expect("chromedriver says where it listens");
        let mut wishes = DesiredCapabilities::chrome();
        for wish in [
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--batch-size=1440,900",
            &format!("--user-data-dir={}", profile.path().display()),
        ] {
            wishes.add_arg(wish).expect("an argument");
        }
        if is_root() {
            // Chromium refuses to have its sandbox as root.
            wishes.add_arg("--no-sandbox").expect("an argument");
        }
        if scripts == Scripts::Off {
            let settings = json!({ "profile.managed_default_content_settings.javascript": 2 });
            wishes.add_experimental_option("prefs", settings).expect("preferences");
        }
        let page = WebDriver::new(format!("http://127.0.0.1:{port}"), wishes)
            .await
            .expect("Chromium starts");
        Self { page, url: stage.url.clone(), driver, _profile: profile }
    }

    /// Logs in, and ends up at the letters.
    pub(crate) async fn log_in(&self, token: &str) {
        self.go("/dead-letters").await;
        self.see("#token").await.send_keys(token).await.expect("the token is typed");
        self.click("form button").await;
        self.see("#list-title").await;
    }

    pub(crate) async fn go(&self, path: &str) {
        self.page.goto(format!("{}{path}", self.url)).await.expect("the page opens");
    }

    /// Waits until there is such an element.
    pub(crate) async fn see(&self, css: &str) -> WebElement {
        match self.page.query(By::Css(css)).first().await {
            Ok(element) => element,
            Err(error) => panic!("{css} is not to be seen: {error}\n{}", self.words().await),
        }
    }

    /// Waits until the element's text holds the words.
    pub(crate) async fn see_words(&self, css: &str, words: &str) {
        eventually(SOON, &format!("{css} says {words:?}"), async || {
            // An element may be exchanged between finding and reading it.
            let element = self.page.find(By::Css(css)).await.ok()?;
            element.text().await.ok()?.contains(words).then_some(())
        })
        .await;
    }

    pub(crate) async fn count(&self, css: &str) -> usize {
        self.page.find_all(By::Css(css)).await.expect("the page can be searched").len()
    }

    pub(crate) async fn click(&self, css: &str) {
        self.see(css).await.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    pub(crate) async fn type_into(&self, css: &str, text: &str) {
        let field = self.see(css).await;
        field.clear().await.expect("the field is cleared");
        field.send_keys(text).await.expect("the field takes text");
    }

    /// Presses keys, wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let focused = self.page.active_element().await.expect("something has the focus");
        focused.send_keys(keys).await.unwrap_or_else(|error| panic!("{keys}: {error}"));
    }

    pub(crate) async fn press_key(&self, key: Key) {
        let focused = self.page.active_element().await.expect("something has the focus");
        focused.send_keys(key + "").await.expect("a key is pressed");
    }

    /// All that the page says.
    pub(crate) async fn words(&self) -> String {
        let body = self.page.find(By::Css("body")).await.expect("a page has a body");
        body.text().await.expect("the page can be read")
    }

    pub(crate) async fn source(&self) -> String {
        self.page.source().await.expect("the page has a source")
    }

    pub(crate) async fn address(&self) -> String {
        self.page.current_url().await.expect("the page has an address").to_string()
    }

    /// Keeps a picture of the page as it is.
    pub(crate) async fn picture(&self, name: &str) {
        let file = pictures().join(format!("{name}.png"));
        self.page.screenshot(&file).await.expect("a picture is taken");
    }

    /// Pictures of the page in light, in dark and on a phone.
    pub(crate) async fn pictures(&self, name: &str) {
        self.picture(&format!("{name}-light")).await;
        self.prefer("dark").await;
        self.picture(&format!("{name}-dark")).await;
        self.prefer("light").await;
        let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true });
        self.devtools("Emulation.setDeviceMetricsOverride", phone).await;
        self.picture(&format!("{name}-phone")).await;
        self.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await;
    }

    /// How far the page is wider than a phone, in pixels.
    pub(crate) async fn overflow_on_a_phone(&self) -> i64 {
        let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true });
        self.devtools("Emulation.setDeviceMetricsOverride", phone).await;
        let script = "return document.documentElement.scrollWidth - 390";
        let measured = self.page.execute(script, Vec::new()).await.expect("it is measured");
        self.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await;
        measured.convert().expect("a number")
    }

    /// Ends it politely; one that is only dropped is killed.
    pub(crate) async fn close(self) {
        self.page.clone().quit().await.expect("the browser quits");
    }

    async fn prefer(&self, scheme: &str) {
        let features = json!({
            "features": [{ "name": "prefers-color-scheme", "value": scheme }]
        });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    async fn devtools(&self, command: &str, parameters: serde_json::Value) {
        self.page.cdp().send_raw(command, parameters).await.expect(command);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = format!("-{}", self.driver.id());
        // Whatever is left of the group ends here; a browser that is gone already is fine.
        drop(Command::new("kill").args(["-s", "KILL", "--", &group]).status());
        drop(self.driver.wait());
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    id.stdout.starts_with(b"0\n")
}

/// Build output: looked at by people.
fn pictures() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("it is below the build's folder")
        .join("screenshots");
    std::fs::create_dir_all(&folder).expect("the folder is made");
    folder
}
