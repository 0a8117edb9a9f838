//! LATENCY: what took long (the monitor), and how long each command takes (the histograms).

use std::fmt::Write as _;

use node_core::command_table::{self, Command, TABLE};

use super::{Context, Done, Failure, words::utf8};
use crate::{latency::Event, stats::CommandTotals};

/// `LATENCY LATEST`
pub(super) fn latest(call: Context<'_, '_, '_>) -> Done {
    let events = call.server().latency.events();
    let reply = call.reply;
    reply.array(events.len());
    for (name, event) in events {
        let latest = event.samples.back().copied();
        reply.array(4);
        reply.text(name);
        reply.integer(latest.map_or(0, |sample| sample.unix_seconds.cast_signed()));
        reply.integer(latest.map_or(0, |sample| sample.ms.cast_signed()));
        reply.integer(event.max_ms.cast_signed());
    }
    Ok(())
}

/// `LATENCY HISTORY event`
pub(super) fn history(call: Context<'_, '_, '_>) -> Done {
    let event = find(&call).unwrap_or_default();
    call.reply.array(event.samples.len());
    for sample in event.samples {
        call.reply.array(2);
        call.reply.integer(sample.unix_seconds.cast_signed());
        call.reply.integer(sample.ms.cast_signed());
    }
    Ok(())
}

fn find(call: &Context<'_, '_, '_>) -> Option<Event> {
    let events = call.server().latency.events();
    events.into_iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(&call.args[2])).map(|(_, event)| event)
}

/// `LATENCY RESET [event ...]`
pub(super) fn reset(call: Context<'_, '_, '_>) -> Done {
    let names: Vec<_> = call.args.from(2).iter().collect();
    let forgotten = call.server().latency.reset(&names);
    call.reply.count(forgotten);
    Ok(())
}

/// `LATENCY HISTOGRAM [command ...]`
pub(super) fn histogram(call: Context<'_, '_, '_>) -> Done {
    let totals = call.server().stats.totals();
    let names = call.args.from(2);
    let wanted = |command: &&Command| {
        let container = |name: &[u8]| {
            command_table::find(name).is_some_and(|container| {
                container.id == command.id || container.subcommands().iter().any(|sub| sub.id == command.id)
            })
        };
        names.is_empty()
            || names.iter().any(|name| name.eq_ignore_ascii_case(command.name.as_bytes()) || container(name))
    };
    let called = |command: &&Command| totals.commands[command.id as usize].calls > 0;
    let commands: Vec<_> = TABLE.iter().filter(called).filter(wanted).collect();
    let reply = call.reply;
    reply.map(commands.len());
    for command in commands {
        let counted = &totals.commands[command.id as usize];
        reply.text(command.name);
        reply.map(2);
        reply.text("calls");
        reply.integer(counted.calls.cast_signed());
        reply.text("histogram_usec");
        let steps = cumulated(counted);
        reply.map(steps.len());
        for (microseconds, calls) in steps {
            reply.integer(microseconds);
            reply.integer(calls);
        }
    }
    Ok(())
}

/// How many calls took up to how many microseconds, where that number changes.
fn cumulated(counted: &CommandTotals) -> Vec<(i64, i64)> {
    let mut sum = 0;
    let filled = counted.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
    let steps = filled.map(|(index, count)| {
        sum += count.cast_signed();
        (1 << index, sum)
    });
    steps.collect()
}

/// `LATENCY DOCTOR`
pub(super) fn doctor(call: Context<'_, '_, '_>) -> Done {
    let server = call.server();
    let events = server.latency.events();
    let text = if server.parameters.latency_from().is_none() {
        "I'm sorry, the latency monitor is off. CONFIG SET latency-monitor-threshold <milliseconds> turns it on.\n"
            .to_owned()
    } else if events.is_empty() {
        "Nothing took long enough to be worth noting.\n".to_owned()
    } else {
        let mut text = String::from("These events took long:\n");
        for (name, event) in events {
            let (count, sum) = event.samples.iter().fold((0, 0), |(count, sum), sample| (count + 1, sum + sample.ms));
            let average = sum / u64::max(count, 1);
            let worst = event.max_ms;
            // A string takes every write.
            let _ =
                writeln!(text, "- {name}: {count} seconds with samples, {average} ms on average, {worst} ms at worst.");
        }
        text.push_str("SLOWLOG GET shows the commands. KEYS, and values of many megabytes, are the usual cause.\n");
        text
    };
    call.reply.verbatim(&text);
    Ok(())
}

/// `LATENCY GRAPH event`
pub(super) fn graph(call: Context<'_, '_, '_>) -> Done {
    let Some(event) = find(&call) else {
        return Err(Failure::from(format!("ERR No samples available for event '{}'", utf8(&call.args[2]))));
    };
    /// Rows of the drawing.
    const ROWS: u64 = 4;
    let name = utf8(&call.args[2]).into_owned();
    let least = event.samples.iter().map(|sample| sample.ms).min().unwrap_or_default();
    let span = (event.max_ms - least).max(1);
    let mut text = format!("{name} - high {} ms, low {least} ms (all time high {} ms)\n", event.max_ms, event.max_ms);
    for row in (0..ROWS).rev() {
        let line = event.samples.iter().map(|sample| {
            let height = (sample.ms - least) * (ROWS - 1) / span;
            if height >= row { '#' } else { ' ' }
        });
        text.extend(line.chain(['\n']));
    }
    call.reply.verbatim(&text);
    Ok(())
}
