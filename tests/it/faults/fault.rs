//! The faults: each can be inflicted on a trial and healed again.

use std::time::Duration;

use crate::faults::broker::Broker;
use crate::faults::database::Database;
use crate::faults::trial::Trial;
use crate::faults::worker::Worker;
use crate::harness::proxy::{Line, Proxy};

/// Something that goes wrong under load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// On the way to a server.
    Network(Server, Network),
    Database(Database),
    Broker(Broker),
    Worker(Worker),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Postgres,
    RabbitMq,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Network {
    /// The open connections end.
    Cut,
    /// They end, and no new ones come about.
    Refused,
    /// They end on the server's side, and nobody tells the worker.
    HalfOpen,
    /// Nothing that the worker says arrives.
    DeafServer,
    /// Nothing that the server says arrives.
    DeafWorker,
    /// Nothing arrives in either direction.
    BlackHole,
    /// Everything takes a fifth of a second.
    Slow,
    /// Everything comes by drops.
    Dripping,
}

impl Fault {
    pub(crate) async fn inflict(self, trial: &mut Trial) {
        match self {
            Self::Network(server, network) => network.inflict(server.line(trial)),
            Self::Database(database) => database.inflict(trial).await,
            Self::Broker(broker) => broker.inflict(trial).await,
            Self::Worker(worker) => worker.inflict(trial).await,
        }
    }

    pub(crate) async fn heal(self, trial: &mut Trial) {
        match self {
            Self::Network(server, _) => server.line(trial).heal(),
            Self::Database(database) => database.heal(trial).await,
            Self::Broker(broker) => broker.heal(trial).await,
            Self::Worker(worker) => worker.heal(trial).await,
        }
    }
}

impl Server {
    fn line(self, trial: &Trial) -> &Proxy {
        match self {
            Self::Postgres => &trial.database,
            Self::RabbitMq => &trial.broker,
        }
    }
}

impl Network {
    fn inflict(self, line: &Proxy) {
        match self {
            Self::Cut => line.cut(),
            Self::Refused => {
                line.refuse(true);
                line.cut();
            }
            Self::HalfOpen => line.half_cut(),
            Self::DeafServer => line.set(Line::Dead, Line::Open),
            Self::DeafWorker => line.set(Line::Open, Line::Dead),
            Self::BlackHole => line.set(Line::Dead, Line::Dead),
            Self::Slow => {
                let slow = Line::Delayed(Duration::from_millis(100));
                line.set(slow, slow);
            }
            Self::Dripping => line.set(Line::Dripping, Line::Dripping),
        }
    }
}
