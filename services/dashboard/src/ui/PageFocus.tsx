/** Where the focus goes when another page is shown: else it would be nowhere. */

import { useEffect } from "react";

import { queries } from "../live/session";
import { hasReturned, type Place } from "../place";
import { focusText, focusRow } from "./keys";

/** The place that was shown last; the first one leaves the focus where the browser puts it. */
let shown: Place | null = null;
/** The row that was pressed last, as what finds it again. */
let pressed = "";
let pressedBatch = "";

document.addEventListener("click", notePress, true);

function notePress({ target }: MouseEvent): void {
  const row = target instanceof Element ? target.closest<HTMLElement>("main [data-batch]") : null;
  const { batch, testid } = row?.dataset ?? {};
  if (!batch || testid === "details") return;
  pressedBatch = batch;
  pressed = `main [data-testid="${testid}"][data-batch="${CSS.escape(batch)}"]`;
}

/**
 * Drawn beside a page, and anew for each: once that is there its heading gets the focus, and after a
 * step back the row that led away, as soon as it is drawn.
 */
export function PageFocus({ place }: { place: Place }) {
  useEffect(() => {
    const left = shown;
    shown = place;
    if (!left || (left.page === place.page && left.id === place.id)) return undefined;
    focusText("main h1");
    const isBack = hasReturned() && left.page === "batch" && left.id === pressedBatch;
    return isBack ? focusOnceDrawn(pressed) : undefined;
  }, []); // The place stays the same: it is this element's key.
  return null;
}

/** Look for a row with each frame until the page's answers are there, or the focus goes elsewhere. */
function focusOnceDrawn(row: string): () => void {
  const before = document.activeElement;
  let frame = 0;
  const look = (): void => {
    if (document.activeElement !== before || focusRow(document.querySelector(row))) return;
    const isHidden = document.querySelector("main .page-body[hidden]") !== null;
    if (isHidden || queries.isFetching() > 0) frame = requestAnimationFrame(look);
  };
  look();
  return () => cancelAnimationFrame(frame);
}
