/** Whose generators make the batch: asked only where living ones serve more than one pool. */

import { useQuery } from "@tanstack/react-query";

import { getNodes } from "../calls";
import type { StartValues } from "../start";
import { Field } from "./Field";

export function PoolField(props: {
  pool: string;
  change(change: Partial<StartValues>): void;
  error: string | undefined;
}) {
  const { pool: chosen, change, error } = props;
  const list = useQuery({ queryKey: ["nodes"], queryFn: ({ signal }) => getNodes(signal) });
  const generators = (list.data?.nodes ?? []).filter(({ service }) => service === "generator");
  const pools = new Set(generators.map(({ pool }) => pool));
  // One that was kept from a visit before is sent, so it is shown.
  if (pools.size < 2 && !chosen) return null;
  const names = [...pools.add(chosen)].filter(Boolean).sort();
  return (
    <Field name="pool" label="Pool of generators" error={error}>
      {(attributes) => (
        <select
          {...attributes}
          value={chosen}
          onChange={(event) => change({ pool: event.target.value })}
        >
          <option value="">The server's default</option>
          {names.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}
