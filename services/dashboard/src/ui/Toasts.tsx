/** Toasts, read out by screen readers as they come. */

import { useSyncExternalStore } from "react";

import { currentNotices, dismiss, onNotices, type NoticeKind } from "../notices";
import { Icon, type IconName } from "./Icon";
import { Foreign } from "./parts";

export const NOTICE_ICONS: Record<NoticeKind, IconName> = {
  success: "check",
  info: "info",
  warning: "warning",
  error: "cross",
};

export function Toasts() {
  const notices = useSyncExternalStore(onNotices, currentNotices);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {notices.map(({ id, kind, title, text }) => (
        <div key={id} className={`toast toast-${kind}`} data-testid="toast" data-kind={kind}>
          <Icon name={NOTICE_ICONS[kind]} />
          <div>
            <strong>{title}</strong>
            <p>
              <Foreign>{text}</Foreign>
            </p>
          </div>
          <button
            type="button"
            className="quiet icon-only"
            aria-label={`Dismiss: ${title}`}
            onClick={() => dismiss(id)}
          >
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}
