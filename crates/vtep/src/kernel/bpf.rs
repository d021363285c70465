//! The programs that take frames from a physical port to the device of their VLAN and back, as the kernel runs them (eBPF,
//! Documentation/bpf/standardization/instruction-set.rst in the kernel's tree).
//!
//! They are put together here, instruction by instruction, because no compiler knows which VLANs a port has: what others
//! look up in a map is in the code, so that a port's VLANs change all at once and nothing but the code need be compared.
//!
//! The kernel takes the outermost tag out of a frame before it shows it to a program: the tag is found in the frame's
//! description (`struct __sk_buff`), whether the network card took it off or not.

use std::collections::{BTreeMap, HashMap};

/// A program's code, as the kernel takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program(Vec<u8>);

impl Program {
    /// Its instructions, 8 bytes each.
    pub(crate) fn code(&self) -> &[u8] {
        &self.0
    }
}

/// `vlan_present`, `vlan_tci` and `vlan_proto` of `struct __sk_buff` (uapi/linux/bpf.h).
const VLAN_PRESENT: i16 = 20;
const VLAN_TCI: i16 = 24;
const VLAN_PROTO: i16 = 28;

/// The VLAN identifier's bits of a tag; the others are priority and drop eligibility.
const VLAN_ID: i32 = 0x0fff;

/// Helpers (`enum bpf_func_id`).
const SKB_VLAN_PUSH: i32 = 18;
const SKB_VLAN_POP: i32 = 19;
const REDIRECT: i32 = 23;

/// Verdicts (uapi/linux/pkt_cls.h): on to the next filter and then the host, or nowhere.
const TC_ACT_UNSPEC: i32 = -1;
const TC_ACT_SHOT: i32 = 2;

/// The tag of IEEE 802.1Q, in network byte order as the kernel gives and takes it.
fn dot1q() -> i32 {
    i32::from(u16::from_be(0x8100))
}

/// On the physical port, for what arrives: frames of a VLAN in `devices` lose their tag and go out through the device
/// with that number; VLAN 0 are those without a tag, or with one that gives a priority alone. All others are left to the
/// host: frames of other VLANs, and without a tag those to the addresses no bridge may pass on (IEEE 802.1Q table 8-1).
pub(crate) fn inward(devices: &BTreeMap<u16, u32>) -> Program {
    let mut code = Assembler::default();
    code.keep_context();
    code.set(VLAN, 0);
    code.load(SCRATCH, VLAN_PRESENT);
    code.jump(Condition::Equal, SCRATCH, 0, Label::Classified);
    code.load(SCRATCH, VLAN_PROTO);
    code.jump(Condition::NotEqual, SCRATCH, dot1q(), Label::Leave);
    code.load(VLAN, VLAN_TCI);
    code.and(VLAN, VLAN_ID);
    code.place(Label::Classified);
    if devices.contains_key(&0) {
        // 01:80:c2:00:00:00 to 0f.
        code.jump(Condition::NotEqual, VLAN, 0, Label::Search);
        code.load_frame_word(0);
        code.jump(Condition::NotEqual, RESULT, 0x0180_c200, Label::Search);
        code.load_frame_half(4);
        code.jump(Condition::Above, RESULT, 0x000f, Label::Search);
        code.go(Label::Leave);
    }
    code.place(Label::Search);
    let devices: Vec<(u16, u32)> = devices.iter().map(|(vlan, to)| (*vlan, *to)).collect();
    code.search(&devices);
    code.place(Label::Found);
    code.call_with_frame(SKB_VLAN_POP);
    code.jump(Condition::NotEqual, RESULT, 0, Label::Drop);
    code.redirect(DEVICE);
    code.verdict(Label::Drop, TC_ACT_SHOT);
    code.verdict(Label::Leave, TC_ACT_UNSPEC);
    code.finish()
}

/// On the device of a VLAN, for what the bridge sent into it: frames get the tag and go out of the port with that number.
/// Without a VLAN (0) frames that carry a tag already go nowhere, or a tenant could send into any VLAN of the port; in a
/// VLAN they get a second one, which is the tenants' own affair.
pub(crate) fn outward(vlan: u16, port: u32) -> Program {
    let mut code = Assembler::default();
    code.keep_context();
    if vlan == 0 {
        code.load(SCRATCH, VLAN_PRESENT);
        code.jump(Condition::Equal, SCRATCH, 0, Label::Found);
        code.load(SCRATCH, VLAN_PROTO);
        code.jump(Condition::NotEqual, SCRATCH, dot1q(), Label::Drop);
        code.load(SCRATCH, VLAN_TCI);
        code.and(SCRATCH, VLAN_ID);
        code.jump(Condition::NotEqual, SCRATCH, 0, Label::Drop);
        code.call_with_frame(SKB_VLAN_POP);
    } else {
        code.set(ARGUMENT_2, dot1q());
        code.set(ARGUMENT_3, i32::from(vlan));
        code.call_with_frame(SKB_VLAN_PUSH);
    }
    code.jump(Condition::NotEqual, RESULT, 0, Label::Drop);
    code.place(Label::Found);
    code.set(DEVICE, index(port));
    code.redirect(DEVICE);
    code.verdict(Label::Drop, TC_ACT_SHOT);
    code.finish()
}

/// Interface numbers are positive.
fn index(number: u32) -> i32 {
    i32::try_from(number).unwrap_or_default()
}

/// Registers: a call gives its result in the first, takes arguments in those that follow, and leaves 6 to 9 as they are.
type Register = u8;
const RESULT: Register = 0;
const ARGUMENT_1: Register = 1;
const ARGUMENT_2: Register = 2;
const ARGUMENT_3: Register = 3;
const SCRATCH: Register = 2;
const CONTEXT: Register = 6;
const VLAN: Register = 7;
const DEVICE: Register = 8;

/// Instructions: class, size or source, and operation.
const MOVE_NUMBER: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND_NUMBER: u8 = 0x57;
const LOAD_WORD: u8 = 0x61;
/// From the frame, converted from network byte order, into the result register.
const LOAD_FRAME_WORD: u8 = 0x20;
const LOAD_FRAME_HALF: u8 = 0x28;
const JUMP: u8 = 0x05;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

#[derive(Clone, Copy)]
enum Condition {
    Equal = 0x15,
    NotEqual = 0x55,
    Above = 0x25,
    AtLeast = 0x35,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Label {
    Classified,
    Search,
    /// The upper half of a search, by its place in the list.
    Upper(usize),
    Found,
    Drop,
    Leave,
}

#[derive(Clone, Copy)]
struct Instruction {
    operation: u8,
    to: Register,
    from: Register,
    offset: i16,
    number: i32,
}

#[derive(Default)]
struct Assembler {
    instructions: Vec<Instruction>,
    jumps: Vec<(usize, Label)>,
    places: HashMap<Label, usize>,
}

impl Assembler {
    fn add(&mut self, operation: u8, to: Register, from: Register, offset: i16, number: i32) {
        self.instructions.push(Instruction {
            operation,
            to,
            from,
            offset,
            number,
        });
    }

    /// The frame's description, given as the first argument, is needed after calls too.
    fn keep_context(&mut self) {
        self.add(MOVE_REGISTER, CONTEXT, ARGUMENT_1, 0, 0);
    }

    fn set(&mut self, to: Register, number: i32) {
        self.add(MOVE_NUMBER, to, 0, 0, number);
    }

    fn and(&mut self, to: Register, number: i32) {
        self.add(AND_NUMBER, to, 0, 0, number);
    }

    fn load(&mut self, to: Register, field: i16) {
        self.add(LOAD_WORD, to, CONTEXT, field, 0);
    }

    fn load_frame_word(&mut self, place: i32) {
        self.add(LOAD_FRAME_WORD, 0, 0, 0, place);
    }

    fn load_frame_half(&mut self, place: i32) {
        self.add(LOAD_FRAME_HALF, 0, 0, 0, place);
    }

    fn call_with_frame(&mut self, helper: i32) {
        self.add(MOVE_REGISTER, ARGUMENT_1, CONTEXT, 0, 0);
        self.add(CALL, 0, 0, 0, helper);
    }

    fn redirect(&mut self, device: Register) {
        self.add(MOVE_REGISTER, ARGUMENT_1, device, 0, 0);
        self.set(ARGUMENT_2, 0);
        self.add(CALL, 0, 0, 0, REDIRECT);
        self.add(EXIT, 0, 0, 0, 0);
    }

    fn verdict(&mut self, label: Label, verdict: i32) {
        self.place(label);
        self.set(RESULT, verdict);
        self.add(EXIT, 0, 0, 0, 0);
    }

    fn jump(&mut self, condition: Condition, register: Register, number: i32, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.add(condition as u8, register, 0, 0, number);
    }

    fn go(&mut self, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.add(JUMP, 0, 0, 0, 0);
    }

    fn place(&mut self, label: Label) {
        self.places.insert(label, self.instructions.len());
    }

    /// Halves the list at each comparison: a frame of one of a thousand VLANs is found by ten.
    fn search(&mut self, devices: &[(u16, u32)]) {
        match devices {
            [] => self.go(Label::Leave),
            [(vlan, device)] => {
                self.jump(Condition::NotEqual, VLAN, i32::from(*vlan), Label::Leave);
                self.set(DEVICE, index(*device));
                self.go(Label::Found);
            }
            _ => {
                let (lower, upper) = devices.split_at(devices.len() / 2);
                let first = upper.first().map_or(0, |(vlan, _)| *vlan);
                let label = Label::Upper(usize::from(first));
                self.jump(Condition::AtLeast, VLAN, i32::from(first), label);
                self.search(lower);
                self.place(label);
                self.search(upper);
            }
        }
    }

    fn finish(mut self) -> Program {
        for (from, label) in &self.jumps {
            let to = self.places.get(label).copied().unwrap_or_default();
            if let Some(instruction) = self.instructions.get_mut(*from) {
                // 4,096 VLANs take 12,288 instructions, less than a jump's reach of 32,767.
                let distance = to.saturating_sub(from + 1);
                instruction.offset = i16::try_from(distance).unwrap_or_default();
            }
        }
        Program(
            self.instructions
                .iter()
                .flat_map(Instruction::bytes)
                .collect(),
        )
    }
}

impl Instruction {
    /// `struct bpf_insn`, in this machine's byte order.
    fn bytes(&self) -> [u8; 8] {
        let registers = if cfg!(target_endian = "big") {
            self.to << 4 | self.from
        } else {
            self.from << 4 | self.to
        };
        let [o0, o1] = self.offset.to_ne_bytes();
        let [n0, n1, n2, n3] = self.number.to_ne_bytes();
        [self.operation, registers, o0, o1, n0, n1, n2, n3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operation, registers, offset, number.
    fn listing(program: &Program) -> Vec<String> {
        let instructions = program.code().chunks(8);
        instructions
            .map(|i| {
                let offset = i16::from_ne_bytes([i[2], i[3]]);
                let number = i32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
                format!("{:02x} {:02x} {offset:+} {number}", i[0], i[1])
            })
            .collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_frame_leaves_with_its_tag() {
        assert_eq!(
            listing(&outward(100, 7)),
            [
                "bf 16 +0 0",   // keep the context
                "b7 02 +0 129", // 0x8100 in network byte order
                "b7 03 +0 100",
                "bf 61 +0 0",
                "85 00 +0 18",
                "55 00 +5 0", // refused: drop
                "b7 08 +0 7",
                "bf 81 +0 0",
                "b7 02 +0 0",
                "85 00 +0 23",
                "95 00 +0 0",
                "b7 00 +0 2",
                "95 00 +0 0",
            ]
        );
    }

    /// Follows a program that needs no frame but its description.
    fn device(program: &Program, tag: Option<(i32, i32)>) -> Option<i32> {
        let code: Vec<&[u8]> = program.code().chunks(8).collect();
        let mut registers = [0; 9];
        let mut at = 0_usize;
        loop {
            let i = code[at];
            let (to, from) = (usize::from(i[1] & 15), usize::from(i[1] >> 4));
            let offset = i16::from_ne_bytes([i[2], i[3]]);
            let number = i32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
            let mut jump = false;
            match i[0] {
                MOVE_NUMBER => registers[to] = number,
                MOVE_REGISTER => registers[to] = registers[from],
                AND_NUMBER => registers[to] &= number,
                LOAD_WORD => {
                    registers[to] = match offset {
                        VLAN_PRESENT => i32::from(tag.is_some()),
                        VLAN_PROTO => tag.unwrap().0,
                        VLAN_TCI => tag.unwrap().1,
                        other => panic!("field {other}"),
                    };
                }
                JUMP => jump = true,
                0x15 => jump = registers[to] == number,
                0x55 => jump = registers[to] != number,
                0x35 => jump = registers[to] >= number,
                CALL if number == REDIRECT => return Some(registers[1]),
                CALL => registers[0] = 0,
                EXIT => return None,
                other => panic!("operation {other:02x}"),
            }
            at += 1;
            if jump {
                at = at.checked_add_signed(isize::from(offset)).unwrap();
            }
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn each_vlan_finds_its_device_and_no_other_does() {
        for count in [1_u16, 2, 3, 10, 4093] {
            let devices: BTreeMap<u16, u32> =
                (0..count).map(|n| (n + 2, u32::from(n) + 1000)).collect();
            let program = inward(&devices);
            for vlan in 1..4095_u16 {
                let wanted = devices.get(&vlan).map(|device| index(*device));
                // With a priority, and the mark that it may be dropped first.
                let tag = 0xf000 | i32::from(vlan);
                assert_eq!(
                    device(&program, Some((dot1q(), tag))),
                    wanted,
                    "{vlan} of {count}"
                );
            }
            // Of IEEE 802.1ad, and none at all.
            let provider = i32::from(u16::from_be(0x88a8));
            assert_eq!(device(&program, Some((provider, 2))), None);
            assert_eq!(device(&program, None), None);
        }
    }
}
