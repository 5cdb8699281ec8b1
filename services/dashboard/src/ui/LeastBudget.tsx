/** The smallest budget that lets a call of the batch in the form start. */

import { useQuery } from "@tanstack/react-query";

import type { LargestCall } from "../choices";
import { request, withQuery } from "../http";
import { useSettled } from "../settled";
import { toBody, type StartValues } from "../start";
import { money, plural } from "../words";

export function LeastBudget(props: { id: string; values: StartValues; recipe: string }) {
  const { id, values, recipe } = props;
  const { model, provider, topic, difficulty, sample_type, instruction } = toBody(values);
  const asked = { model, provider, topic, difficulty, sample_type, instruction };
  const path = withQuery(`/v1/recipes/${encodeURIComponent(recipe)}/largest-call`, asked);
  const settled = useSettled(path);
  const { data } = useQuery({
    queryKey: ["largest-call", settled],
    queryFn: ({ signal }) => request<LargestCall>(settled, { signal }),
    enabled: recipe !== "",
    retry: false, // What can't be started has none; the start itself says why.
  });
  if (!data || data.tokens === null || settled !== path) return null;
  const cost = data.cost_nano_usd === null ? "" : ` and ${money(data.cost_nano_usd)}`;
  return (
    <small id={id} data-testid="start-least-budget">
      One call may use up to {plural(data.tokens, "token")}
      {cost}: a smaller budget is refused.
    </small>
  );
}
