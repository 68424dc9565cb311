//! What the internal exchange costs the broker: commands to the public exchange, which passes them on
//! to the routing exchange, against commands to an exchange that routes by itself, as it was before.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::harness::connect;
use crate::limits;
use crate::report::{Table, ratios};
use crate::stage::{LANE, Stage};

/// The lanes' patterns, of which none matches what is published: the broker looks at all levels.
const PATTERNS: usize = 100;
const DIRECT: &str = "bench.direct";
const PUBLIC: &str = "partner-program.commands";
const ROUTING: &str = "partner-program.commands.routing";
const UNBOUND: &str = "partner-program.commands.unbound";
const COUNT: usize = 60_000;

/// Both ways take turns, without patterns and with many.
pub(crate) async fn compare(stage: &mut Stage, rounds: usize) {
    let connection = connect(&stage.place.amqp_url, "routing").await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), AMQPValue::LongString(UNBOUND.into()));
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel
        .exchange_declare(DIRECT.into(), ExchangeKind::Topic, durable, arguments)
        .await
        .expect("an exchange");
    let mut table = Table::new(
        "What the internal exchange costs the broker",
        &["patterns", "direct, messages/s", "through the internal exchange", "ratio"],
    );
    for patterns in [0, PATTERNS] {
        for number in 0..patterns {
            for exchange in [DIRECT, ROUTING] {
                let pattern = format!("other-{number}.#");
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(
                        LANE.into(),
                        exchange.into(),
                        pattern.into(),
                        options,
                        FieldTable::default(),
                    )
                    .await
                    .expect("it is bound");
            }
        }
        let (mut direct, mut internal) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            eprintln!("routing, {patterns} patterns, round {} of {rounds}", round + 1);
            for turn in 0..2 {
                let is_direct = (round + turn) % 2 == 0;
                let exchange = if is_direct { DIRECT } else { PUBLIC };
                stage.reset().await;
                let url = &stage.place.amqp_url;
                let rate = limits::publish(url, exchange, "acme.link", COUNT).await;
                if is_direct { direct.push(rate) } else { internal.push(rate) }
            }
        }
        let ratio = ratios(&internal, &direct).show(2);
        let (direct, internal) = (direct.into_iter().collect(), internal.into_iter().collect());
        let show = |series: crate::report::Series| series.show(0);
        table.row(&[patterns.to_string(), show(direct), show(internal), ratio]);
    }
    table.print();
}
