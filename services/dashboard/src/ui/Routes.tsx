/** The routes to models: what each may take, what keeps it, and how many calls it has. */

import { useQuery } from "@tanstack/react-query";

import type { RouteView } from "../analysis";
import { getRoutes } from "../calls";
import { useNow } from "../live/hooks";
import { duration, grouped, plural, wordsOf } from "../words";
import { Empty, Foreign, Trouble } from "./parts";

const REFRESH_MS = 3_000;

export function Routes() {
  const answer = useQuery({
    queryKey: ["routes"],
    queryFn: ({ signal }) => getRoutes(signal),
    refetchInterval: REFRESH_MS,
  });
  return (
    <section className="card" aria-labelledby="routes-title">
      <header className="card-head">
        <h2 id="routes-title">Routes to models</h2>
      </header>
      {answer.error && (
        <Trouble
          what="The routes could not be read"
          words={wordsOf(answer.error)}
          retry={() => void answer.refetch()}
        />
      )}
      {answer.isPending && <Empty>Reading the routes…</Empty>}
      {!answer.error && answer.data?.routes.length === 0 && (
        <Empty>No generator has called a model yet. Add a batch on the hub.</Empty>
      )}
      <ul className="rows">
        {answer.data?.routes.map((route) => <RouteRow key={route.key} route={route} />)}
      </ul>
    </section>
  );
}

function RouteRow({ route }: { route: RouteView }) {
  const now = useNow();
  const left = route.until === null ? 0 : Date.parse(route.until) - now;
  return (
    <li className="error-group" data-testid="route" data-state={route.state}>
      <p>
        <b>
          <Foreign>{route.model}</Foreign>
        </b>{" "}
        <Foreign>
          {[route.provider, route.litellm_model, route.address].filter(Boolean).join(", ")}
        </Foreign>
        {route.state !== "ok" && <span className="tag tag-stuck">{route.state}</span>}
      </p>
      <p className="facts">
        <span>{plural(route.in_flight, "call")} in flight</span>
        {route.waiting > 0 && <span>{plural(route.waiting, "call")} in line</span>}
        <span>{limitsOf(route)}</span>
        {route.share < 1 && <span>at {Math.round(100 * route.share)} % of its pace</span>}
        <span>{plural(route.nodes.length, "generator")}</span>
      </p>
      {route.state !== "ok" && (
        <p className="row-error">
          <span>
            <Foreign>{route.cause}</Foreign>
            {left > 0 && `; tried again in ${duration(left)}`}
          </span>
        </p>
      )}
    </li>
  );
}

function limitsOf({ rpm, tpm, max_concurrency }: RouteView): string {
  const limits = [
    rpm !== null && `${grouped(rpm)} requests a minute`,
    tpm !== null && `${grouped(tpm)} tokens a minute`,
    max_concurrency !== null && `${plural(max_concurrency, "call")} at once`,
  ].filter((limit) => limit !== false);
  return limits.length > 0 ? `at most ${limits.join(", ")}` : "no limit";
}
