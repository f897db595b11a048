import type { Member, Message, Options, Room, Status } from "./dormouse.js";

export interface RoomState {
  /** Null until the component is mounted. */
  room: Room | null;
  status: Status;
  /** The newest 200. */
  messages: Message[];
  members: Member[];
}

/** Joins a room for as long as the component is mounted; another when name or gateway changes. */
export declare function useRoom(name: string, options?: Options): RoomState;
