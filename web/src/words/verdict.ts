// The pool in one sentence, and what else an operator has to know now.

import type { Overview } from "../api/types.ts";
import { line } from "./escape.ts";
import { count, duration, list, plural } from "./format.ts";

export interface Verdict {
  sign: "good" | "warn" | "bad";
  headline: string;
  /** Sentences beside it, the most urgent first. */
  more: string[];
}

/** Requests wait often, and for no time at all; from here on somebody notices. */
const NOTICED_SECONDS = 1;

export function verdict(now: Overview): Verdict {
  const said: { sign: Verdict["sign"]; text: string }[] = [];
  const say = (sign: Verdict["sign"], text: string) => said.push({ sign, text });
  const { status, binding, circuits, rejections } = now;
  const wait = status.longest_wait;

  if (status.state === "draining") {
    say("warn", "stdiopool is shutting down: it finishes what is in flight, and takes nothing new.");
  }
  // Circuits for everyone stop a server; others stop single tenants.
  const down = [...new Set(circuits.rows.filter((row) => !row.tenant).map((row) => row.server))];
  if (down.length > 0) {
    say("bad", `${list(down)} ${down.length === 1 ? "is" : "are"} not started for anyone, after repeated failures.`);
  }
  const some = circuits.total - circuits.rows.filter((row) => !row.tenant).length;
  if (some > 0) {
    const servers = [...new Set(circuits.rows.filter((row) => row.tenant).map((row) => row.server))];
    const which = servers.length > 0 ? ` of ${list(servers)}` : "";
    say("warn", `Starts${which} are held back for single tenants, after repeated failures.`);
  }
  if (status.queue_depth > 0) {
    const isLong = wait !== null && wait.seconds >= NOTICED_SECONDS;
    const who = wait ? `, the longest for ${duration(wait.seconds)} (${line(wait.tenant)} at ${line(wait.server)})` : "";
    const waits = status.queue_depth === 1 ? "waits" : "wait";
    say(isLong ? "warn" : "good", `${plural(status.queue_depth, "request")} ${waits}${who}.`);
  }
  if (rejections.lately > 0) {
    const span = duration(rejections.over_seconds);
    const [most] = [...rejections.rows].sort((a, b) => b.lately - a.lately);
    const why = most && most.lately > 0 ? `, most of them ${most.reason}` : "";
    const were = Math.round(rejections.lately) === 1 ? "was" : "were";
    say("warn", `${plural(rejections.lately, "request")} ${were} refused in the last ${span}${why}.`);
  }
  // A pool that is full is one that is used well, as long as nobody has to make room.
  if (binding?.shows === "evicts" || binding?.shows === "reached") {
    say(binding.shows === "evicts" ? "warn" : "good", sentence(binding.message));
  }

  const order = { bad: 0, warn: 1, good: 2 };
  said.sort((a, b) => order[a.sign] - order[b.sign]);
  const [first, ...rest] = said;
  if (first && first.sign !== "good") return { sign: first.sign, headline: first.text, more: rest.map((one) => one.text) };
  return { sign: "good", headline: served(now), more: said.map((one) => one.text) };
}

function served({ status }: Overview): string {
  const busy = status.workers.busy;
  if (busy > 0) return `All callers are served: ${plural(busy, "worker")} ${busy === 1 ? "is" : "are"} at work.`;
  return "All is quiet: nothing is in flight, and nothing waits.";
}

/** Text of the supervisor as a sentence: its errors begin in lower case and end without a full stop. */
export function sentence(text: string): string {
  const one = line(text).trim();
  // A name (`w8`, `pool.toml`, `mcp-server-fetch`) is written as it is.
  const begun = /^[a-z]+(?=[ ,:]|$)/.test(one) ? one.charAt(0).toUpperCase() + one.slice(1) : one;
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}

/** What a message says beside the word that stands before it: `ready after 1.1s` behind `Ready` is `after 1.1s`. */
export function withoutName(name: string, message: string): string {
  if (!message.toLowerCase().startsWith(name.toLowerCase())) return message;
  const rest = message.slice(name.length);
  return /^[a-z0-9]/i.test(rest) ? message : rest.replace(/^[:,]? */, "");
}

/** Which limit binds now, in words. */
export function bindingWords(now: Overview): { title: string; text: string } {
  const { binding, status } = now;
  if (!binding) return { title: "No limit binds", text: "Nothing waits for a place, and nothing was evicted within the last minute." };
  const full = binding.shows === "evicts" ? ", and idle workers make room" : "";
  const titles: Record<string, string> = {
    max_workers: `All ${count(status.limits.max_workers)} places for workers are taken${full}`,
    max_workers_per_tenant: "A tenant has as many workers as it may",
    max_workers_per_server: "A server has as many workers as it may",
    max_memory: `The memory of all workers is used up${full}`,
    max_starting: `${plural(status.limits.max_starting, "worker")} may start at once, and as many do`,
    max_in_flight: "All workers that may serve it are busy",
    start: "A worker is being started",
    circuit: "A server is left alone after failures",
    queue_limit: "The queue is full",
    draining: "stdiopool is shutting down",
  };
  return { title: titles[binding.limit] ?? binding.limit, text: sentence(binding.message) };
}
