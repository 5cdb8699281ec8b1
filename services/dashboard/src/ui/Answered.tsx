/** What waits for a page's first answers. */

import { useIsFetching } from "@tanstack/react-query";
import { useEffect, useState, type ReactNode } from "react";

import { useConnection } from "../live/hooks";

/** So long the first answers are waited for; what is late moves the rest down. */
const FIRST_ANSWERS_MS = 500;

/**
 * Shows its children once the stream's first state and the first answers are there, or late: drawn
 * one by one they would push each other down under the reader's eyes.
 */
export function Answered({ children }: { children: ReactNode }) {
  const isConnecting = useConnection().state === "connecting";
  const isAsking = useIsFetching() > 0;
  // A query asks once what needs it has been drawn: until then nothing is on its way.
  const [hasAsked, setAsked] = useState(false);
  const [isLate, setLate] = useState(false);
  const [isAnswered, setAnswered] = useState(false);
  useEffect(() => {
    setAsked(true);
    const timer = setTimeout(() => setLate(true), FIRST_ANSWERS_MS);
    return () => clearTimeout(timer);
  }, []);
  if (!isAnswered && (isLate || (hasAsked && !isConnecting && !isAsking))) setAnswered(true);
  return (
    <div className="page-body" hidden={!isAnswered}>
      {children}
    </div>
  );
}
