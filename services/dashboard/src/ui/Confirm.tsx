/** A question before something that can't be taken back. */

import { Dialog } from "@base-ui/react/dialog";
import type { ReactNode } from "react";

export function Confirm(props: {
  isOpen: boolean;
  title: string;
  /** What the button says; null: there is nothing to confirm. */
  action: string | null;
  children: ReactNode;
  onConfirm(): void;
  onClose(): void;
}) {
  return (
    <Dialog.Root open={props.isOpen} onOpenChange={(open) => !open && props.onClose()}>
      <Dialog.Portal>
        <Dialog.Backdrop className="backdrop" />
        <Dialog.Popup className="dialog dialog-small" data-testid="confirm">
          <Dialog.Title>{props.title}</Dialog.Title>
          <Dialog.Description>{props.children}</Dialog.Description>
          <div className="dialog-actions">
            <Dialog.Close>{props.action ? "Cancel" : "Close"}</Dialog.Close>
            {props.action && (
              <button
                type="button"
                className="danger"
                data-testid="confirm-action"
                onClick={() => {
                  props.onClose();
                  props.onConfirm();
                }}
              >
                {props.action}
              </button>
            )}
          </div>
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
