/** The processes that live, what each says of itself, and the routes to models. */

import { useQuery } from "@tanstack/react-query";

import type { NodeList } from "../analysis";
import { getNodes } from "../calls";
import { useNow } from "../live/hooks";
import { duration, grouped, plural, UNKNOWN, wordsOf } from "../words";
import { Answered } from "./Answered";
import { Empty, Foreign, Trouble } from "./parts";
import { Routes } from "./Routes";

const REFRESH_MS = 3_000;
const NEEDED = ["generator", "projector", "api"];
const NAMES: Record<string, string> = { api: "APIs", generator: "Generators", projector: "Projectors" };

export function NodesPage() {
  const now = useNow();
  const answer = useQuery({
    queryKey: ["nodes"],
    queryFn: ({ signal }) => getNodes(signal),
    refetchInterval: REFRESH_MS,
  });
  const list = answer.data;
  const missing = NEEDED.filter((service) => list && !list.services[service]);
  const ago = (time: string): string => duration(now - Date.parse(time));
  return (
    <>
      <section className="card" aria-labelledby="nodes-title">
        <header className="card-head">
          <h1 id="nodes-title">Nodes</h1>
          {list && <span className="muted">log at sequence {grouped(list.as_of)}</span>}
        </header>
        {answer.error && (
          <Trouble
            what="The nodes could not be read"
            words={wordsOf(answer.error)}
            retry={() => void answer.refetch()}
          />
        )}
        {answer.isPending && <Empty>Reading the nodes…</Empty>}
        {list && <Fleet list={list} />}
        {missing.map((service) => (
          <p key={service} className="row-error" role="alert">
            No {service} lives. Start one: millstream {service}
          </p>
        ))}
        <ul className="rows">
          {list?.nodes.map((node) => (
            <li key={`${node.service}.${node.node}`} className="error-group" data-testid="node">
              <p>
                <b>
                  <Foreign>{node.node}</Foreign>
                </b>{" "}
                {node.service !== node.node && <span className="muted">{node.service}</span>}{" "}
                {node.pool !== "default" && <Foreign>{`pool ${node.pool}`}</Foreign>}
                {node.is_full && <span className="tag">takes no more</span>}
              </p>
              <p className="facts">
                <span>last beat {ago(node.beat_at)} ago</span>
                <span>up for {ago(node.started_at)}</span>
                {node.service === "generator" && <span>{plural(node.in_flight, "call")} in flight</span>}
                {node.lag !== null && (
                  <span>
                    at sequence {grouped(node.sequence)}, {plural(node.lag, "event")} behind
                  </span>
                )}
                {node.unreadable > 0 && <span className="is-bad">{grouped(node.unreadable)} unreadable</span>}
              </p>
              {node.alarm && (
                <p className="row-error">
                  <Foreign>{node.alarm}</Foreign>
                </p>
              )}
              {node.note && (
                <p className="muted">
                  <Foreign>{node.note}</Foreign>
                </p>
              )}
              {node.service !== "generator" && node.lag === null && <p>{UNKNOWN}</p>}
            </li>
          ))}
        </ul>
      </section>
      {/* Below what is still to come they would be pushed down by it. */}
      <Answered>
        <Routes />
      </Answered>
    </>
  );
}

/** All of them in one line. */
function Fleet({ list }: { list: NodeList }) {
  const calls = list.nodes.reduce((sum, { in_flight }) => sum + in_flight, 0);
  const full = list.nodes.filter(({ is_full }) => is_full).length;
  const behind = Math.max(0, ...list.nodes.map(({ lag }) => lag ?? 0));
  const pools = new Set(list.nodes.map(({ pool }) => pool)).size;
  const facts: [name: string, testid: string, value: string][] = [
    ...Object.entries(list.services).map(
      ([service, count]): [string, string, string] => [NAMES[service] ?? service, service, grouped(count)],
    ),
    ["Calls in flight", "in-flight", grouped(calls)],
    ["Full generators", "full", grouped(full)],
    ["Pools", "pools", grouped(pools)],
    ["Farthest behind the log", "behind", plural(behind, "event")],
    ["Alarms", "alarms", grouped(list.alarms.length)],
  ];
  return (
    <dl className="fact-list fleet" data-testid="fleet">
      {facts.map(([name, testid, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd data-testid={`fleet-${testid}`}>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
