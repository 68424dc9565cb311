//! The broker's management API: what a test observes of queues and connections, and what an
//! operator can do to them.

use std::time::Duration;

use serde_json::{Value, json};

/// How long one answer of the management API may take.
const MANAGEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the API may trip over one question, and the pause before it is asked again.
const TRIPS_MAX: u32 = 20;
const AFTER_A_TRIP: Duration = Duration::from_millis(100);
/// How often a node that starts may refuse a connection.
const REFUSALS_MAX: u32 = 300;
/// `guest:guest`, as HTTP basic authentication has it.
const GUEST: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";

/// The management API of one vhost.
pub(crate) struct Broker {
    agent: ureq::Agent,
    management_url: String,
    vhost: String,
}

/// What the broker knows about a queue. Its numbers are up to a second old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Waiting to be delivered.
    pub(crate) ready: u64,
    /// Delivered and not acknowledged.
    pub(crate) unacked: u64,
}

impl Broker {
    /// Makes the vhost and lets `guest` use all of it.
    pub(crate) fn create(management_url: &str, vhost: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(MANAGEMENT_TIMEOUT))
            .proxy(None)
            .build()
            .into();
        let broker =
            Self { agent, management_url: management_url.to_owned(), vhost: vhost.to_owned() };
        broker.put(&format!("vhosts/{vhost}"), &json!({}));
        broker.put(
            &format!("permissions/{vhost}/guest"),
            &json!({ "configure": ".*", "write": ".*", "read": ".*" }),
        );
        broker
    }

    /// The broker's major and minor version.
    pub(crate) fn version(&self) -> (u32, u32) {
        let overview = self.get("overview").expect("a broker has an overview");
        let text = overview.get("rabbitmq_version").and_then(Value::as_str).expect("a version");
        let mut numbers = text.split('.').map(|number| number.parse().expect("a number"));
        (numbers.next().expect("a major one"), numbers.next().expect("a minor one"))
    }

    /// The depth of a queue; `None` if there is no such queue or it has no figures yet.
    pub(crate) fn depth(&self, queue: &str) -> Option<Depth> {
        let queue = self.get(&format!("queues/{}/{}", self.vhost, encode(queue)))?;
        Some(Depth {
            ready: queue.get("messages_ready")?.as_u64()?,
            unacked: queue.get("messages_unacknowledged")?.as_u64()?,
        })
    }

    /// The node that leads a quorum queue.
    pub(crate) fn leader(&self, queue: &str) -> String {
        let queue = self.get(&format!("queues/{}/{}", self.vhost, encode(queue)));
        let leader = queue.as_ref().and_then(|queue| queue.get("leader")?.as_str());
        leader.expect("a quorum queue has a leader").to_owned()
    }

    /// How often messages of the queue were delivered again since the broker has started.
    pub(crate) fn redelivered(&self, queue: &str) -> u64 {
        let queue = self.get(&format!("queues/{}/{}", self.vhost, encode(queue)));
        let count = queue.as_ref().and_then(|queue| queue.pointer("/message_stats/redeliver"));
        count.and_then(Value::as_u64).unwrap_or_default()
    }

    /// The open channels of this vhost, by the name that the client gave their connection.
    pub(crate) fn channels(&self) -> Vec<String> {
        let channels = self.get(&format!("vhosts/{}/channels", self.vhost));
        let connections = self.connections();
        let given = |channel: &Value| {
            let name = channel.pointer("/connection_details/name")?.as_str()?;
            connections.iter().find(|(own, _)| own == name).map(|(_, given)| given.clone())
        };
        channels
            .iter()
            .flat_map(|all| all.as_array().into_iter().flatten())
            .filter_map(given)
            .collect()
    }

    /// Lets queues of that name refuse what comes once they hold so many messages.
    pub(crate) fn limit_length(&self, queue: &str, messages: u32) {
        self.put(
            &format!("policies/{}/full", self.vhost),
            &json!({
                "pattern": format!("^{queue}$"), "apply-to": "queues",
                "definition": { "max-length": messages, "overflow": "reject-publish" },
            }),
        );
    }

    /// Lowers the delivery limit of the lanes' queues: a policy can do no more.
    pub(crate) fn limit_deliveries(&self, deliveries: usize) {
        self.put(
            &format!("policies/{}/deliveries", self.vhost),
            &json!({
                "pattern": r"^partner-program\.commands\.", "apply-to": "queues",
                "definition": { "delivery-limit": deliveries },
            }),
        );
    }

    pub(crate) fn lift_limit(&self) {
        self.delete(&format!("policies/{}/full", self.vhost));
    }

    /// Makes a user who may do everything in this vhost, or gives him another password.
    pub(crate) fn set_user(&self, name: &str, password: &str) {
        let body = json!({ "password": password, "tags": "" });
        self.put(&format!("users/{name}"), &body);
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        self.put(&format!("permissions/{}/{name}", self.vhost), &all);
    }

    pub(crate) fn unbind(&self, exchange: &str, queue: &str, pattern: &str) {
        // As the API names a binding without a routing key.
        let pattern = if pattern.is_empty() { "~" } else { pattern };
        self.delete(&format!(
            "bindings/{}/e/{}/q/{}/{}",
            self.vhost,
            encode(exchange),
            encode(queue),
            if pattern == "~" { pattern.to_owned() } else { encode(pattern) }
        ));
    }

    pub(crate) fn bind(&self, exchange: &str, queue: &str, pattern: &str) {
        let path = format!("bindings/{}/e/{}/q/{}", self.vhost, encode(exchange), encode(queue));
        self.post(&path, &json!({ "routing_key": pattern }));
    }

    /// Whether anything is bound to the exchange by that pattern.
    pub(crate) fn is_bound(&self, exchange: &str, pattern: &str) -> bool {
        let path = format!("exchanges/{}/{}/bindings/source", self.vhost, encode(exchange));
        let bindings = self.get(&path).unwrap_or_default();
        let mut bindings = bindings.as_array().into_iter().flatten();
        bindings.any(|binding| binding["routing_key"] == pattern)
    }

    /// The URL of the HTTP API, for the program.
    pub(crate) fn management_url(&self) -> &str {
        &self.management_url
    }

    /// The connections to this vhost: the broker's name of each, and the one that its client
    /// gave (`connection_name`; empty if none).
    pub(crate) fn connections(&self) -> Vec<(String, String)> {
        let connections = self.get(&format!("vhosts/{}/connections", self.vhost));
        let text = |value: &Value, pointer| {
            let text = value.pointer(pointer).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let named = |value: &Value| {
            (text(value, "/name"), text(value, "/client_properties/connection_name"))
        };
        connections.iter().flat_map(|all| all.as_array().into_iter().flatten()).map(named).collect()
    }

    /// Closes a connection, by the broker's name of it, as an operator would.
    pub(crate) fn close_connection(&self, name: &str) {
        match self.try_delete(&format!("connections/{}", encode(name))) {
            // 500: it is just going by itself, which the API trips over.
            Ok(_) | Err(ureq::Error::StatusCode(404 | 500)) => {}
            Err(error) => panic!("management API, close {name}: {error}"),
        }
    }

    /// Deletes a queue, whatever is in it and whoever consumes from it.
    pub(crate) fn delete_queue(&self, queue: &str) {
        self.delete(&format!("queues/{}/{}", self.vhost, encode(queue)));
    }

    /// How many queues have a name that begins so.
    pub(crate) fn queues_like(&self, prefix: &str) -> usize {
        let queues = self.get(&format!("queues/{}", self.vhost));
        let queues = queues.iter().flat_map(|all| all.as_array().into_iter().flatten());
        let names = queues.filter_map(|queue| queue.get("name")?.as_str());
        names.filter(|name| name.starts_with(prefix)).count()
    }

    /// Deletes an exchange with its bindings.
    pub(crate) fn delete_exchange(&self, exchange: &str) {
        self.delete(&format!("exchanges/{}/{}", self.vhost, encode(exchange)));
    }

    /// A user who may use all of the vhost.
    pub(crate) fn create_user(&self, user: &str, password: &str) {
        self.put(&format!("users/{user}"), &json!({ "password": password, "tags": "" }));
        self.put(
            &format!("permissions/{}/{user}", self.vhost),
            &json!({ "configure": ".*", "write": ".*", "read": ".*" }),
        );
    }

    /// Users belong to no vhost, so they do not go with it.
    pub(crate) fn delete_user(&self, user: &str) {
        self.delete(&format!("users/{user}"));
    }

    /// Makes a user, or changes one, who may only write to exchanges that match `write`.
    pub(crate) fn permit_writing(&self, user: &str, password: &str, write: &str) {
        self.put(&format!("users/{user}"), &json!({ "password": password, "tags": "" }));
        self.put(
            &format!("permissions/{}/{user}", self.vhost),
            &json!({ "configure": "", "write": write, "read": ".*" }),
        );
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/{path}", self.management_url)
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut tripped = 0;
        loop {
            let answer = self.agent.get(self.url(path)).header("authorization", GUEST).call();
            match answer {
                Ok(mut answer) => {
                    let answer = answer.body_mut().read_json();
                    return Some(answer.expect("the management API answers with JSON"));
                }
                Err(ureq::Error::StatusCode(404)) => return None,
                // It trips over a channel or a connection that is just going.
                Err(ureq::Error::StatusCode(500)) if tripped < TRIPS_MAX => {
                    tripped += 1;
                    std::thread::sleep(AFTER_A_TRIP);
                }
                Err(error) => panic!("management API, get {path}: {error}"),
            }
        }
    }

    /// A node that has just started takes requests some moments later.
    fn put(&self, path: &str, body: &Value) {
        let mut refused = 0;
        loop {
            let request = self.agent.put(self.url(path)).header("authorization", GUEST);
            match request.send_json(body) {
                Ok(_) => return,
                Err(ureq::Error::Io(_)) if refused < REFUSALS_MAX => {
                    refused += 1;
                    std::thread::sleep(AFTER_A_TRIP);
                }
                Err(error) => panic!("management API, put {path}: {error}"),
            }
        }
    }

    fn post(&self, path: &str, body: &Value) {
        self.agent
            .post(self.url(path))
            .header("authorization", GUEST)
            .send_json(body)
            .unwrap_or_else(|error| panic!("management API, post {path}: {error}"));
    }

    /// What is gone already is as good as deleted.
    fn delete(&self, path: &str) {
        match self.try_delete(path) {
            Ok(_) | Err(ureq::Error::StatusCode(404)) => {}
            Err(error) => panic!("management API, delete {path}: {error}"),
        }
    }

    fn try_delete(&self, path: &str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        self.agent.delete(self.url(path)).header("authorization", GUEST).call()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The server may have been killed by the test: then the vhost goes with its folder.
        drop(self.try_delete(&format!("vhosts/{}", self.vhost)));
    }
}

/// As one segment of a URL's path.
fn encode(segment: &str) -> String {
    segment
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
