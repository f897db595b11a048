//! Numbers that JSON does not have.
//!
//! serde_json writes NaN and the infinities as `null` and says nothing: what was sent would not be what was
//! meant. A value is looked through before, as serde shows it.

use std::fmt::Display;

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::Error;

/// Refuses a value in which a number is not finite, wherever it stands.
pub(super) fn check(value: &impl Serialize) -> Result<(), Error> {
    value.serialize(Finite)
}

/// Takes everything but such numbers, and makes nothing of it.
#[derive(Clone, Copy)]
struct Finite;

macro_rules! takes {
    ($($name:ident($kind:ty))*) => {
        $(fn $name(self, _: $kind) -> Result<(), Error> {
            Ok(())
        })*
    };
}

impl Serializer for Finite {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    takes! {
        serialize_bool(bool) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_i128(i128) serialize_u128(u128) serialize_unit_struct(&'static str)
    }

    fn serialize_f32(self, number: f32) -> Result<(), Error> {
        self.serialize_f64(f64::from(number))
    }

    fn serialize_f64(self, number: f64) -> Result<(), Error> {
        match number.is_finite() {
            true => Ok(()),
            false => Err(Error::custom(format_args!("JSON has no number {number}"))),
        }
    }

    fn serialize_none(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &str, _: u32, _: &str) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &str,
        _: u32,
        _: &str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &str, _: u32, _: &str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_struct(self, _: &str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &str, _: u32, _: &str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Result<(), Error> {
        Ok(())
    }
}

macro_rules! looks_into {
    ($($kind:ident::$name:ident)*) => {
        $(impl $kind for Finite {
            type Ok = ();
            type Error = Error;

            fn $name<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                value.serialize(*self)
            }

            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        })*
    };
}

macro_rules! looks_into_fields {
    ($($kind:ident)*) => {
        $(impl $kind for Finite {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                value.serialize(*self)
            }

            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        })*
    };
}

looks_into! {
    SerializeSeq::serialize_element
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

looks_into_fields! { SerializeStruct SerializeStructVariant }

impl SerializeMap for Finite {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Error> {
        Ok(()) // what is no key serde_json refuses itself
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(*self)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Data;
    use serde_json::json;

    #[derive(serde::Serialize)]
    enum Shape {
        Dot,
        Circle(f64),
        Line(f64, f32),
        Box { wide: f64 },
    }

    #[derive(serde::Serialize)]
    struct Drawing {
        shapes: Vec<Shape>,
        scale: Option<f64>,
        notes: BTreeMap<u8, (f32, &'static str)>,
    }

    fn drawing(shape: Shape, scale: Option<f64>, note: f32) -> Drawing {
        Drawing { shapes: vec![Shape::Dot, shape], scale, notes: [(7, (note, "n"))].into() }
    }

    #[test]
    fn a_number_that_json_does_not_have_is_refused_wherever_it_stands() {
        let good = Data::json(&drawing(Shape::Line(0.5, -1.0), None, 2.0)).unwrap();
        let shapes = json!(["Dot", { "Line": [0.5, -1.0] }]);
        assert_eq!(
            good,
            Data::Json(json!({ "shapes": shapes, "scale": null, "notes": { "7": [2.0, "n"] } }))
        );
        for bad in [
            drawing(Shape::Circle(f64::NAN), None, 0.0),
            drawing(Shape::Line(0.0, f32::INFINITY), None, 0.0),
            drawing(Shape::Box { wide: f64::NEG_INFINITY }, None, 0.0),
            drawing(Shape::Dot, Some(f64::NAN), 0.0),
            drawing(Shape::Dot, None, f32::NAN),
        ] {
            let error = Data::json(&bad).unwrap_err().to_string();
            assert!(error.starts_with("JSON has no number"), "{error}");
        }
        assert!(Data::json(&f64::NAN).is_err());
    }

    #[test]
    fn a_map_whose_keys_are_no_texts_is_refused() {
        let map = BTreeMap::from([((1, 2), "a place")]);
        assert!(Data::json(&map).unwrap_err().to_string().contains("key must be a string"));
    }
}
