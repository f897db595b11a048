import type { Member, Message, Options, Room, Status } from "./dormouse.js";

export interface RoomState {
  /** Null until the component is mounted, and where no room can be joined. */
  room: Room | null;
  /** Closed, with the error that `connect` throws, where no room can be joined: `bad_name`, `no_gateway`. */
  status: Status;
  /** The newest 200. */
  messages: Message[];
  /** With those whose connection is lost and may yet come back: they have `away`. */
  members: Member[];
}

/** Joins a room for as long as the component is mounted; another when name or gateway changes. */
export declare function useRoom(name: string, options?: Options): RoomState;
